"""Contains the configurations of the bottlenecks between an encoder and a decoder.

A tuple of configurations stands for bottlenecks that are applied one after the other. ``AutoEncoderConfig(coder=coder,
latent_channels=4, bottleneck=(TanhConfig(), QuantizerConfig()))`` first applies tanh, and then quantizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archijax.codecs.bottlenecks import (
    BitcodesBottleneck,
    Bottleneck,
    GaussianBottleneck,
    NoiserBottleneck,
    TanhBottleneck,
    VariationalBottleneck,
)
from archijax.codecs.quantizers import FiniteScalarQuantizer, VectorQuantizer
from archijax.errors import InputError, require


@dataclass(frozen=True)
class TanhConfig:
    """Applies tanh, which keeps latents between -1 and 1."""

    guard: float = 0.0
    """The weight of a loss that keeps latents away from -1 and 1."""

    def build(self, channels: int) -> TanhBottleneck:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return TanhBottleneck(self.guard)


@dataclass(frozen=True)
class NoiseConfig:
    """Adds Gaussian noise to latents in training."""

    sigma: float = 0.1
    """The standard deviation of the noise."""

    def build(self, channels: int) -> NoiserBottleneck:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return NoiserBottleneck(self.sigma)


@dataclass(frozen=True)
class GaussianConfig:
    """Predicts a Gaussian for each value of the latent, as in a variational autoencoder."""

    divergence_weight: float = 1e-4
    """The weight of the divergence from a standard Gaussian, in nats per value."""
    warmup_steps: int = 0
    """The number of training steps over which divergence_weight grows from 0."""
    free_bits: float = 0.0
    """A divergence in nats. If the divergence of a channel is lower, free_bits replaces this divergence in the loss."""

    def build(self, channels: int) -> GaussianBottleneck:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return GaussianBottleneck(self.divergence_weight, self.warmup_steps, self.free_bits)


@dataclass(frozen=True)
class FiniteScalarConfig:
    """Applies finite scalar quantization: each channel is rounded to a few values."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """The number of values of each channel. The list is repeated for further channels, so latent_channels must be a
    multiple of the list's length."""

    def build(self, channels: int) -> FiniteScalarQuantizer:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        require(channels % len(self.levels) == 0, "latent_channels", channels, f"a multiple of {len(self.levels)}")
        return FiniteScalarQuantizer(self.levels)


@dataclass(frozen=True)
class VariationalConfig:
    """Predicts a Gaussian for each value of the latent, as in audio-encoders-pytorch. The mean is between -1 and 1, and
    the log-variance is between 0 and 2."""

    kl_weight: float = 1e-4
    """The weight of the divergence from a standard Gaussian."""

    def build(self, channels: int) -> VariationalBottleneck:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return VariationalBottleneck(self.kl_weight)


@dataclass(frozen=True)
class BitcodesConfig:
    """Turns each latent vector into bits, and the bits into a sum of learned vectors."""

    num_bits: int = 8
    """The number of bits of each latent vector."""

    def __post_init__(self):
        require(self.num_bits >= 1, "bottleneck.num_bits", self.num_bits, "1 or more")

    def build(self, channels: int) -> BitcodesBottleneck:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return BitcodesBottleneck(channels, self.num_bits)


@dataclass(frozen=True)
class QuantizerConfig:
    """Applies vector quantization. With several levels, the quantization is residual."""

    num_codes: int = 1024
    """The number of vectors of a codebook."""
    num_levels: int = 1
    """The number of codebooks. Each codebook quantizes the residual of the codebooks before it."""
    commitment_weight: float = 0.25
    """The weight of the distance between latents and their codes."""
    dropout: float = 0.0
    """The share of training sounds that use a random number of levels. The model then works at several bit rates."""

    def __post_init__(self):
        for name in ("num_codes", "num_levels"):
            require(getattr(self, name) >= 1, f"bottleneck.{name}", getattr(self, name), "1 or more")

    def build(self, channels: int) -> VectorQuantizer:
        """Builds the bottleneck, a Flax module, for latents with ``channels`` channels."""
        return VectorQuantizer(
            channels,
            self.num_codes,
            self.num_levels,
            commitment_weight=self.commitment_weight,
            dropout=self.dropout,
        )


BottleneckConfig = (
    TanhConfig
    | NoiseConfig
    | GaussianConfig
    | VariationalConfig
    | BitcodesConfig
    | QuantizerConfig
    | FiniteScalarConfig
)


def build_bottlenecks(configs: Sequence[BottleneckConfig], channels: int | None) -> tuple[Bottleneck, ...]:
    """Builds the bottlenecks of a latent, a tuple of Flax modules in the order of ``configs``.

    Args:
        configs: the configurations, such as ``(TanhConfig(), QuantizerConfig())``.
        channels: the number of channels of the latent, or None for that of the encoder's last level.

    Raises:
        InputError: ``channels`` is below 1, or is None for a bottleneck that needs a number.
    """
    if channels is not None:
        require(channels >= 1, "latent_channels", channels, "1 or more")
    elif any(isinstance(config, BitcodesConfig | QuantizerConfig | FiniteScalarConfig) for config in configs):
        raise InputError("latent_channels is None, but bits and quantizers need a number")
    return tuple(config.build(channels) for config in configs)
