"""Autoencoders as nets: an encoder, a bottleneck and the decoder that mirrors the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.audio.stft import STFT, to_polar
from archijax.codecs.decoders import Decoder1d
from archijax.codecs.encoders import LOG_RANGE, Encoder1d, log_magnitude
from archijax.codecs.levels import Levels, check_multiple, from_channels, to_channels
from archijax.errors import InputError
from archijax.nn.arrays import full


class AutoEncoder1d(Levels, kw_only=True):
    """An encoder and the decoder that mirrors it: sound [b, time, in_channels] to a latent and back.

    Fields, beside those of :class:`Levels`, which are in the encoder's order:
        in_channels: of the sound.
        out_channels: of what is decoded; None: in_channels.
        bottleneck: one, or several in sequence (see :mod:`archijax.codecs.bottlenecks`).
        bottleneck_channels: of the latent; None: as many as the last level has.
    """

    in_channels: int
    out_channels: int | None = None
    bottleneck: nn.Module | Sequence[nn.Module] = ()
    bottleneck_channels: int | None = None

    @property
    def latent_channels(self) -> int:
        return self.bottleneck_channels or self.widths[-1]

    def setup(self):
        shared = {name: getattr(self, name) for name in ("channels", "patch_size", "resnet_groups", "dtype")}
        levels = {name: tuple(getattr(self, name)) for name in ("multipliers", "factors", "num_blocks")}
        self.encoder = Encoder1d(**shared, **levels, out_channels=self.bottleneck_channels, bottleneck=self.bottleneck)
        self.decoder = Decoder1d(
            **shared,
            **{name: values[::-1] for name, values in levels.items()},
            in_channels=self.bottleneck_channels,
            out_channels=self._decoded_channels,
        )

    @property
    def _decoded_channels(self) -> int:
        return self.out_channels or self.in_channels

    def encode(self, x: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (latent [b, time / downsample_factor, latent_channels], info).

        Args:
            random: keys, draws and train, as for :class:`Encoder1d`, whose info this is.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        return self.encoder(x, **random)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, latent_channels] to [b, frames * downsample_factor, out_channels]."""
        return self.decoder(latent)

    def __call__(self, x: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (the same decoded, info), in info "latent" too.

        Raises:
            InputError: a time that downsample_factor does not divide, as the result would be longer.
        """
        check_multiple(x.shape[1], self.downsample_factor, "patch_size times the factors")
        latent, info = self.encode(x, **random)
        return self.decode(latent), {"latent": latent, **info}


class MAE1d(AutoEncoder1d, kw_only=True):
    """Autoencoder of an STFT's magnitudes [b, frames, frequencies, in_channels], by their logarithms.

    What it decodes has no phase: a vocoder makes sound of it. Fields, beside those of :class:`AutoEncoder1d`: stft,
    whose magnitudes they are; its frames take the place of time.
    """

    stft: STFT

    @property
    def _decoded_channels(self) -> int:
        return super()._decoded_channels * self.stft.frequencies

    def encode(self, magnitude: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps magnitudes [b, frames, frequencies, in_channels] to (latent [b, frames / factors, c], info)."""
        expected = (self.stft.frequencies, self.in_channels)
        if magnitude.shape[2:] != expected:
            raise InputError(
                f"magnitudes have shape {magnitude.shape}: [batch, frames, {expected[0]}, {expected[1]}] is needed"
            )
        return self.encoder(to_channels(log_magnitude(magnitude)), **random)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent to magnitudes [b, frames, frequencies, out_channels], from e^-30 to e^20."""
        return jnp.exp(jnp.clip(from_channels(self.decoder(latent), self.stft.frequencies), *LOG_RANGE))

    def loss(self, wave: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean absolute difference of log-magnitudes for a sound [b, time, in_channels], and info.

        A bottleneck's own loss is not added: it is info["loss"].
        """
        magnitude, _ = to_polar(self.stft.encode(full(wave)))
        prediction, info = self(magnitude, **random)
        return jnp.mean(jnp.abs(log_magnitude(prediction) - log_magnitude(magnitude))), info
