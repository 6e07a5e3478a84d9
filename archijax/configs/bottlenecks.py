"""Configurations of the bottlenecks between an encoder and a decoder. A tuple is a sequence of bottlenecks."""

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
    """tanh, which keeps latents in (-1, 1)."""

    guard: float = 0.0
    """The weight of a loss that keeps latents away from -1 and 1."""

    def build(self, channels: int) -> TanhBottleneck:
        """The bottleneck of a latent with this number of channels."""
        return TanhBottleneck(self.guard)


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise in training."""

    sigma: float = 0.1
    """The standard deviation of the noise."""

    def build(self, channels: int) -> NoiserBottleneck:
        """The bottleneck of a latent with this number of channels."""
        return NoiserBottleneck(self.sigma)


@dataclass(frozen=True)
class GaussianConfig:
    """A Gaussian distribution for each value of the latent, as in a variational autoencoder."""

    divergence_weight: float = 1e-4
    """The weight of the divergence from a standard Gaussian, in nats per value."""
    warmup_steps: int = 0
    """Training steps over which divergence_weight grows from 0."""
    free_bits: float = 0.0
    """Nats of divergence per channel that do not count as a loss."""

    def build(self, channels: int) -> GaussianBottleneck:
        """The bottleneck of a latent with this number of channels."""
        return GaussianBottleneck(self.divergence_weight, self.warmup_steps, self.free_bits)


@dataclass(frozen=True)
class FiniteScalarConfig:
    """Finite scalar quantization: each channel is rounded to a few values."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """The number of values of each channel. The list is repeated until all channels of the latent have a number."""

    def build(self, channels: int) -> FiniteScalarQuantizer:
        """The bottleneck of a latent with this number of channels."""
        require(channels % len(self.levels) == 0, "latent_channels", channels, f"a multiple of {len(self.levels)}")
        return FiniteScalarQuantizer(self.levels)


@dataclass(frozen=True)
class VariationalConfig:
    """A Gaussian with mean in (-1, 1) and log-variance in (0, 2) for each value, as in audio-encoders-pytorch."""

    kl_weight: float = 1e-4
    """The weight of the divergence from a standard Gaussian."""

    def build(self, channels: int) -> VariationalBottleneck:
        """The bottleneck of a latent with this number of channels."""
        return VariationalBottleneck(self.kl_weight)


@dataclass(frozen=True)
class BitcodesConfig:
    """Latents that consist of bits."""

    num_bits: int = 8
    """The number of bits of each value of the latent."""

    def __post_init__(self):
        require(self.num_bits >= 1, "bottleneck.num_bits", self.num_bits, "1 or more")

    def build(self, channels: int) -> BitcodesBottleneck:
        """The bottleneck of a latent with this number of channels."""
        return BitcodesBottleneck(channels, self.num_bits)


@dataclass(frozen=True)
class QuantizerConfig:
    """Vector quantization, which is residual if there are several levels."""

    num_codes: int = 1024
    """The number of vectors of a codebook."""
    num_levels: int = 1
    """The number of codebooks. Each quantizes the residual of the codebooks before it."""
    commitment_weight: float = 0.25
    """The weight of the distance between latents and their codes."""
    dropout: float = 0.0
    """The share of training items that use a random number of levels, so that the model has several bit rates."""

    def __post_init__(self):
        for name in ("num_codes", "num_levels"):
            require(getattr(self, name) >= 1, f"bottleneck.{name}", getattr(self, name), "1 or more")

    def build(self, channels: int) -> VectorQuantizer:
        """The bottleneck of a latent with this number of channels."""
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
    """The bottlenecks of a latent, in sequence.

    Args:
        channels: the channels of the latent; None: those of the net's last level.

    Raises:
        InputError: channels are below 1, or None although a bottleneck needs a number.
    """
    if channels is not None:
        require(channels >= 1, "latent_channels", channels, "1 or more")
    elif any(isinstance(config, BitcodesConfig | QuantizerConfig | FiniteScalarConfig) for config in configs):
        raise InputError("latent_channels is None, but bits and quantizers need a number")
    return tuple(config.build(channels) for config in configs)
