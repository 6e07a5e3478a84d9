"""Contains the configurations of the nets of autoencoders."""

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
    """Holds the sizes of an encoder, and of the decoder that mirrors the encoder. The first entry of each list belongs
    to the level next to the sound. The last entry belongs to the level next to the latent.

    ``CoderConfig(channels=8, multipliers=(1, 2), factors=(2,), num_blocks=(1,))`` has one level. The field ``coder`` of
    an AutoEncoderConfig, a MagnitudeAutoEncoderConfig or an EncoderConfig takes a CoderConfig.
    """

    channels: int
    """The number of channels that the multipliers multiply."""
    multipliers: tuple[int, ...]
    """The numbers of channels before the first level and after each level, as multiples of ``channels``. There is one
    entry more than levels."""
    factors: tuple[int, ...]
    """The number by which each level divides the length."""
    num_blocks: tuple[int, ...]
    """The number of residual blocks of each level."""
    patch_size: int = 1
    """The number of neighbouring samples that are joined to one position before the first level."""
    resnet_groups: int = 8
    """The number of groups of the group norms, a divisor of the number of channels of every level."""

    def __post_init__(self):
        positive(self, "coder", "channels", "patch_size", "resnet_groups")

    def settings(self) -> dict[str, Any]:
        """Returns a dict of all fields by name. Encoder1d and AutoEncoder1d have fields with the same names."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(CoderConfig)}

    def build(self, *, latent_channels: int | None, **settings: Any) -> AutoEncoder1d:
        """Builds the autoencoder of sound. Example: ``coder.build(latent_channels=4, in_channels=1)``. ``settings`` are
        the fields in_channels (required), bottleneck and dtype of :class:`archijax.codecs.AutoEncoder1d`."""
        return AutoEncoder1d(**self.settings(), bottleneck_channels=latent_channels, **settings)

    def discriminator(self) -> Discriminator1d:
        """Builds a discriminator from an encoder with the settings of this CoderConfig."""
        return Discriminator1d(Encoder1d(**self.settings()))


@dataclass(frozen=True)
class FrameCoderConfig:
    """Holds the sizes of an encoder and a decoder of STFT frames, for the field ``coder`` of an AutoEncoderConfig. The
    first entry of each list belongs to the frame rate of the STFT. The last entry belongs to the lowest frame rate.

    ``FrameCoderConfig(widths=(256, 384), factors=(4,), encoder_blocks=(2, 2), decoder_blocks=(4, 4))`` has two frame
    rates. For one frame rate, the lists have one entry each, and ``factors`` is empty.
    """

    n_fft: int = 1024
    """The length of the STFT's Hann window in samples."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""
    widths: tuple[int, ...] = (512,)
    """The number of channels at each frame rate."""
    factors: tuple[int, ...] = ()
    """The ratio of each frame rate to the next lower frame rate. There is one entry fewer than frame rates."""
    encoder_blocks: tuple[int, ...] = (3,)
    """The number of blocks of the encoder at each frame rate."""
    decoder_blocks: tuple[int, ...] = (6,)
    """The number of blocks of the decoder at each frame rate."""

    def __post_init__(self):
        positive(self, "coder", "n_fft", "hop_length")

    def build(self, **settings: Any) -> FrameAutoEncoder:
        """Builds the autoencoder of sound.

        ``settings`` are the fields in_channels and latent_channels (both required), bottleneck and dtype of
        :class:`archijax.codecs.FrameAutoEncoder`.
        """
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
    """Configures a discriminator: a net for each period, and a net for each STFT window.

    Example: ``AutoEncoderConfig(coder=coder, discriminator=AdversaryConfig())``.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """The period of each period discriminator, in samples."""
    windows: tuple[int, ...] = (2048, 1024, 512)
    """The length of each spectrum discriminator's STFT window in samples, a multiple of 64."""
    channels: int = 32
    """The number of channels of each discriminator's first layer."""

    def __post_init__(self):
        positive(self, "discriminator", "channels")

    def discriminator(self) -> Adversary:
        """Builds the discriminator."""
        return Adversary(self.periods, self.windows, self.channels)
