"""Model configurations: frozen dataclasses that build a model, and their form in config.json."""

from .autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from .diffusion import DiffusionAEConfig, DiffusionConfig, EncoderConfig, LatentConfig, UpsamplerConfig, VocoderConfig
from .example import example_batch
from .kinds import KINDS, from_dict, to_dict
from .nets import (
    BottleneckConfig,
    CoderConfig,
    LearnedTransformConfig,
    PatchingConfig,
    STFTConfig,
    TextConfig,
    UNetConfig,
)

__all__ = [
    "KINDS",
    "AutoEncoderConfig",
    "BottleneckConfig",
    "CoderConfig",
    "DiffusionAEConfig",
    "DiffusionConfig",
    "EncoderConfig",
    "LatentConfig",
    "LearnedTransformConfig",
    "MagnitudeAutoEncoderConfig",
    "PatchingConfig",
    "STFTConfig",
    "TextConfig",
    "UNetConfig",
    "UpsamplerConfig",
    "VocoderConfig",
    "example_batch",
    "from_dict",
    "to_dict",
]
