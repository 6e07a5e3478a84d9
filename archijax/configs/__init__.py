"""Contains the model configurations: frozen dataclasses that build a model and can be stored as config.json."""

from archijax.configs.autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from archijax.configs.autoregressive import AutoregressiveConfig
from archijax.configs.base import ModelConfig, SampleDefaults
from archijax.configs.bottlenecks import (
    BitcodesConfig,
    FiniteScalarConfig,
    GaussianConfig,
    NoiseConfig,
    QuantizerConfig,
    TanhConfig,
    VariationalConfig,
)
from archijax.configs.coders import AdversaryConfig, CoderConfig, FrameCoderConfig
from archijax.configs.conditioners import CategoryConfig, NumberConfig
from archijax.configs.diffusion import DiffusionConfig, EnvelopeConfig, UpsamplerConfig, VocoderConfig
from archijax.configs.example import example_batch
from archijax.configs.kinds import KINDS, build, check_config, from_dict, kind_of, to_dict
from archijax.configs.latents import DiffusionAEConfig, EncoderConfig, LatentConfig
from archijax.configs.nets import LearnedTransformConfig, PatchingConfig, STFTConfig, TextConfig, UNetConfig
from archijax.configs.oobleck import OobleckConfig
from archijax.configs.stable_audio import StableAudioConfig, TransformerConfig, seconds

__all__ = [
    "KINDS",
    "AdversaryConfig",
    "AutoEncoderConfig",
    "AutoregressiveConfig",
    "BitcodesConfig",
    "CategoryConfig",
    "CoderConfig",
    "DiffusionAEConfig",
    "DiffusionConfig",
    "EncoderConfig",
    "EnvelopeConfig",
    "FiniteScalarConfig",
    "FrameCoderConfig",
    "GaussianConfig",
    "LatentConfig",
    "LearnedTransformConfig",
    "MagnitudeAutoEncoderConfig",
    "ModelConfig",
    "NoiseConfig",
    "NumberConfig",
    "OobleckConfig",
    "PatchingConfig",
    "QuantizerConfig",
    "STFTConfig",
    "SampleDefaults",
    "StableAudioConfig",
    "TanhConfig",
    "TextConfig",
    "TransformerConfig",
    "UNetConfig",
    "UpsamplerConfig",
    "VariationalConfig",
    "VocoderConfig",
    "build",
    "check_config",
    "example_batch",
    "from_dict",
    "kind_of",
    "seconds",
    "to_dict",
]
