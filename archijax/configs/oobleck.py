"""Contains the configuration of Oobleck, the autoencoder of Stable Audio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.codecs.losses import WINDOWS
from archijax.codecs.oobleck import Oobleck, SoftplusBottleneck
from archijax.configs.base import ModelConfig
from archijax.configs.nets import positive
from archijax.errors import InputError
from archijax.models import AutoEncoder


@dataclass(frozen=True)
class OobleckConfig(ModelConfig):
    """Configures a convolutional autoencoder with a Gaussian latent. The defaults are those of Stable Audio Open."""

    encoder_channels: int = 128
    """The number of feature channels of the encoder before its first downsampling."""
    decoder_channels: int = 128
    """The number of feature channels of the decoder after its last upsampling."""
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The number of feature channels after each downsampling of the encoder, as a multiple of ``encoder_channels``. In
    the decoder, the same factors multiply ``decoder_channels``."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    """The factor of each downsampling, an even number. There are as many entries as multipliers."""
    latent_channels: int = 64
    """The number of channels of the latent."""
    sample_rate: int = 44_100
    """Samples per second."""
    channels: int = 2
    """The number of channels: 1 for mono, 2 for stereo."""
    length: int = 2**16
    """The length of the training sounds in samples, a multiple of the product of the strides."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation. The parameters are float32."""
    block_frames: int = 128
    """The number of latent frames of a block. Longer sounds are encoded and decoded block by block, which needs
    constant memory and does not change the result."""
    waveform: float = 1.0
    """The weight of the mean absolute difference between the samples of the true and of the decoded sound."""
    stft: float = 1.0
    """The weight of the multi-resolution STFT loss."""
    mel: float = 0.0
    """The weight of the log-mel loss."""
    windows: tuple[int, ...] = WINDOWS
    """Window lengths of the stft and mel losses in samples, multiples of 4."""
    kl_weight: float = 1e-4
    """The weight of the latent's divergence from a standard Gaussian."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length", "latent_channels", "block_frames")
        positive(self, "model", "encoder_channels", "decoder_channels")
        if self.length % self.downsample_factor:
            multiple = self.downsample_factor
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (the product of the strides): "
                f"use {ceil_div(self.length, multiple) * multiple}"
            )

    @property
    def downsample_factor(self) -> int:
        """The number of samples per frame of the latent."""
        return math.prod(self.strides)

    def build(self) -> AutoEncoder:
        """Builds the model. Raises InputError if settings do not fit each other."""
        net = Oobleck(
            self.channels,
            self.latent_channels,
            self.encoder_channels,
            self.decoder_channels,
            self.multipliers,
            self.strides,
            (SoftplusBottleneck(self.kl_weight),),
            self.block_frames,
            jnp.dtype(self.dtype),
        )
        weights = {name: getattr(self, name) for name in ("waveform", "stft", "mel", "windows")}
        return AutoEncoder(net, sample_rate=self.sample_rate, **weights)
