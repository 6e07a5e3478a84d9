"""Model configurations: frozen dataclasses that build a model, and their form in config.json."""

from .autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from .diffusion import DiffusionAEConfig, DiffusionConfig, EncoderConfig, UpsamplerConfig, VocoderConfig
from .example import example_batch
from .kinds import KINDS, from_dict, to_dict
from .nets import BottleneckConfig, CoderConfig, LearnedTransformConfig, TextConfig, UNetConfig

__all__ = [
    "KINDS",
    "AutoEncoderConfig",
    "BottleneckConfig",
    "CoderConfig",
    "DiffusionAEConfig",
    "DiffusionConfig",
    "EncoderConfig",
    "LearnedTransformConfig",
    "MagnitudeAutoEncoderConfig",
    "TextConfig",
    "UNetConfig",
    "UpsamplerConfig",
    "VocoderConfig",
    "example_batch",
    "from_dict",
    "to_dict",
]
