"""Configurations of bottlenecks: what stands between an encoder and a decoder. Several in sequence are a tuple."""

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
    """Latents in (-1, 1)."""

    guard: float = 0.0
    """Weight of a loss that keeps them from -1 and 1; 0: none."""

    def build(self, channels: int) -> TanhBottleneck:
        """The bottleneck of a latent of so many channels."""
        return TanhBottleneck(self.guard)


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise in training."""

    sigma: float = 0.1
    """Its standard deviation."""

    def build(self, channels: int) -> NoiserBottleneck:
        """The bottleneck of a latent of so many channels."""
        return NoiserBottleneck(self.sigma)


@dataclass(frozen=True)
class GaussianConfig:
    """A Gaussian per latent, as in a variational autoencoder."""

    divergence_weight: float = 1e-4
    """Weight of its divergence from a standard Gaussian, in nats per latent."""
    warmup_steps: int = 0
    """Training steps over which this weight rises from 0."""
    free_bits: float = 0.0
    """Nats of divergence that each channel may have without loss."""

    def build(self, channels: int) -> GaussianBottleneck:
        """The bottleneck of a latent of so many channels."""
        return GaussianBottleneck(self.divergence_weight, self.warmup_steps, self.free_bits)


@dataclass(frozen=True)
class FiniteScalarConfig:
    """Channels rounded to a few values each."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Values of the channels of a group; the latent has as many groups as fit."""

    def build(self, channels: int) -> FiniteScalarQuantizer:
        """The bottleneck of a latent of so many channels."""
        require(channels % len(self.levels) == 0, "latent_channels", channels, f"a multiple of {len(self.levels)}")
        return FiniteScalarQuantizer(self.levels)


@dataclass(frozen=True)
class VariationalConfig:
    """A Gaussian per latent, mean in (-1, 1) and log-variance in (0, 2), as in audio-encoders-pytorch."""

    kl_weight: float = 1e-4
    """Weight of its divergence from a standard Gaussian."""

    def build(self, channels: int) -> VariationalBottleneck:
        """The bottleneck of a latent of so many channels."""
        return VariationalBottleneck(self.kl_weight)


@dataclass(frozen=True)
class BitcodesConfig:
    """Latents made of bits."""

    num_bits: int = 8
    """Bits of each latent."""

    def __post_init__(self):
        require(self.num_bits >= 1, "bottleneck.num_bits", self.num_bits, "1 or more")

    def build(self, channels: int) -> BitcodesBottleneck:
        """The bottleneck of a latent of so many channels."""
        return BitcodesBottleneck(channels, self.num_bits)


@dataclass(frozen=True)
class QuantizerConfig:
    """Vector quantization, residual where it has several levels."""

    num_codes: int = 1024
    """Vectors of a codebook."""
    num_levels: int = 1
    """Codebooks, each for what those before it leave."""
    commitment_weight: float = 0.25
    """Weight of the distance between latents and their codes."""
    dropout: float = 0.0
    """Share of a training batch's items that are decoded from a drawn number of levels, for several bit rates."""

    def __post_init__(self):
        for name in ("num_codes", "num_levels"):
            require(getattr(self, name) >= 1, f"bottleneck.{name}", getattr(self, name), "1 or more")

    def build(self, channels: int) -> VectorQuantizer:
        """The bottleneck of a latent of so many channels."""
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
    """The bottlenecks in sequence of a latent of so many channels; None: as many as the last level of a net has.

    Raises:
        InputError: channels below 1, or None for a bottleneck that needs a number.
    """
    if channels is not None:
        require(channels >= 1, "latent_channels", channels, "1 or more")
    elif any(isinstance(config, BitcodesConfig | QuantizerConfig | FiniteScalarConfig) for config in configs):
        raise InputError("latent_channels is None: bits and quantizers need a number")
    return tuple(config.build(channels) for config in configs)
