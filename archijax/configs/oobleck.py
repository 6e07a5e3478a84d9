"""The configuration of Oobleck, the autoencoder of Stable Audio."""

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
    """A convolutional autoencoder of samples around a Gaussian latent; the defaults are Stable Audio Open's."""

    encoder_channels: int = 128
    """Channels of the encoder at the sound's rate."""
    decoder_channels: int = 128
    """Channels of the decoder there."""
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 16)
    """How many times as many after each stride."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    """How many times each level shortens; even numbers."""
    latent_channels: int = 64
    """Channels of the latent."""
    sample_rate: int = 44_100
    """Samples per second."""
    channels: int = 2
    """1 for mono, 2 for stereo."""
    length: int = 2**16
    """Samples of the sounds it is trained on."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""
    block_frames: int = 128
    """Longer sounds are coded by blocks of so many frames of the latent, at constant memory and to the same result."""
    waveform: float = 1.0
    """Weight of the mean absolute difference of samples."""
    stft: float = 1.0
    """Weight of the multi-resolution STFT loss."""
    mel: float = 0.0
    """Weight of the log-mel loss."""
    windows: tuple[int, ...] = WINDOWS
    """Windows of these two in samples, multiples of 4."""
    kl_weight: float = 1e-4
    """Weight of the latent's divergence from a standard Gaussian."""

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
        """Samples per frame of the latent."""
        return math.prod(self.strides)

    def build(self) -> AutoEncoder:
        """The model. Raises InputError: settings that do not fit each other."""
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
