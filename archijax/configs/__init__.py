"""Model configurations: frozen dataclasses that build a model, and their form in config.json."""

from archijax.configs.autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from archijax.configs.diffusion import (
    DiffusionAEConfig,
    DiffusionConfig,
    EncoderConfig,
    LatentConfig,
    UpsamplerConfig,
    VocoderConfig,
)
from archijax.configs.example import example_batch
from archijax.configs.kinds import KINDS, from_dict, kind_of, to_dict
from archijax.configs.nets import (
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
    "kind_of",
    "to_dict",
]
