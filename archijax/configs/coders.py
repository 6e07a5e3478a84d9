"""Configurations of the nets of autoencoders."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from archijax.audio.stft import STFT
from archijax.codecs.adversaries import Adversary
from archijax.codecs.autoencoders import AutoEncoder1d
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import Encoder1d
from archijax.codecs.frames import FrameAutoEncoder
from archijax.configs.nets import positive


@dataclass(frozen=True)
class CoderConfig:
    """An encoder of samples, and the decoder that mirrors it. Lists go from sound to latent."""

    channels: int
    """The number that the multipliers multiply."""
    multipliers: tuple[int, ...]
    """Channels before, between and after the levels, divided by ``channels``. There is one entry more than levels."""
    factors: tuple[int, ...]
    """The number by which each level divides the length."""
    num_blocks: tuple[int, ...]
    """The number of residual blocks of each level."""
    patch_size: int = 1
    """Samples that become one position before the first level."""
    resnet_groups: int = 8
    """Groups of the group norms."""

    def __post_init__(self):
        positive(self, "coder", "channels", "patch_size", "resnet_groups")

    def settings(self) -> dict[str, Any]:
        """The fields that encoders and autoencoders share."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(CoderConfig)}

    def build(self, *, latent_channels: int | None, **settings: Any) -> AutoEncoder1d:
        """The autoencoder of sound. The settings are in_channels, bottleneck and dtype."""
        return AutoEncoder1d(**self.settings(), bottleneck_channels=latent_channels, **settings)

    def discriminator(self) -> Discriminator1d:
        """The discriminator with this encoder."""
        return Discriminator1d(Encoder1d(**self.settings()))


@dataclass(frozen=True)
class FrameCoderConfig:
    """An encoder and a decoder of STFT frames. Lists have one entry per frame rate, beginning with that of the STFT."""

    n_fft: int = 1024
    """Samples of the STFT's Hann window."""
    hop_length: int = 256
    """Samples between frames."""
    widths: tuple[int, ...] = (512,)
    """Channels at each rate."""
    factors: tuple[int, ...] = ()
    """The ratio of each rate to the next one. There is one entry fewer than rates."""
    encoder_blocks: tuple[int, ...] = (3,)
    """Blocks of the encoder at each rate."""
    decoder_blocks: tuple[int, ...] = (6,)
    """Blocks of the decoder at each rate."""

    def __post_init__(self):
        positive(self, "coder", "n_fft", "hop_length")

    def build(self, **settings: Any) -> FrameAutoEncoder:
        """The autoencoder of sound. The settings are in_channels, latent_channels, bottleneck and dtype."""
        return FrameAutoEncoder(
            STFT(self.n_fft, self.hop_length, centred=False),
            self.widths,
            self.factors,
            self.encoder_blocks,
            self.decoder_blocks,
            **settings,
        )


@dataclass(frozen=True)
class AdversaryConfig:
    """Discriminators at several periods and resolutions."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods in samples. Each has a discriminator."""
    windows: tuple[int, ...] = (2048, 1024, 512)
    """STFT windows in samples, multiples of 64. Each has a discriminator."""
    channels: int = 32
    """Channels of the discriminators' first layers."""

    def __post_init__(self):
        positive(self, "discriminator", "channels")

    def discriminator(self) -> Adversary:
        """The discriminator."""
        return Adversary(self.periods, self.windows, self.channels)
