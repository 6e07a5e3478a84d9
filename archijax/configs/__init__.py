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
from archijax.configs.oobleck import OobleckConfig
from archijax.configs.stable_audio import StableAudioConfig, TransformerConfig, seconds

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
    "OobleckConfig",
    "PatchingConfig",
    "STFTConfig",
    "StableAudioConfig",
    "TextConfig",
    "TransformerConfig",
    "UNetConfig",
    "UpsamplerConfig",
    "VocoderConfig",
    "example_batch",
    "from_dict",
    "kind_of",
    "seconds",
    "to_dict",
]
