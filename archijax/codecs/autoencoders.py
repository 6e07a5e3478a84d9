"""Defines autoencoders as nets: an encoder, a bottleneck, and a decoder that mirrors the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.audio.stft import STFT, to_polar
from archijax.codecs.decoders import Decoder1d
from archijax.codecs.encoders import LOG_RANGE, Encoder1d, log_magnitude
from archijax.codecs.levels import Levels, check_multiple, from_channels, to_channels
from archijax.errors import InputError
from archijax.nn.arrays import full


class AutoEncoder1d(Levels, kw_only=True):
    """Encodes sound to a latent, applies a bottleneck, and decodes latents by a decoder that mirrors the encoder.

    ``net = AutoEncoder1d(in_channels=1, channels=32, multipliers=(1, 2, 4), factors=(4, 4), num_blocks=(2, 2))``
    encodes mono sound [b, time, 1] to a latent [b, time / 16, 128], and decodes latents to mono sound.

        variables = net.init(key, audio)
        latent, info = net.apply(variables, audio, method="encode")
        decoded = net.apply(variables, latent, method="decode")

    Each list is in order from sound to latent. ``multipliers`` has one entry more than ``factors`` and ``num_blocks``.
    Level i of the encoder has ``num_blocks[i]`` residual blocks, and maps ``channels * multipliers[i]`` channels to
    ``channels * multipliers[i + 1]`` channels. downsample_factor is patch_size times the product of the factors.
    resnet_groups, by default 8, must divide the number of channels of every level. ``archijax.AutoEncoder(net=net,
    sample_rate=48000)`` trains the net.

    Fields, in addition to the fields of :class:`archijax.codecs.levels.Levels`:
        in_channels: the number of channels of the sound.
        out_channels: the number of channels of the decoded sound; None: in_channels.
        bottleneck: a bottleneck, such as ``TanhBottleneck()``, or a sequence of bottlenecks; empty: no bottleneck.
        bottleneck_channels: the number of channels of the latent; None: the number of channels after the last level of
            the encoder.
    """

    in_channels: int
    out_channels: int | None = None
    bottleneck: nn.Module | Sequence[nn.Module] = ()
    bottleneck_channels: int | None = None

    @property
    def latent_channels(self) -> int:
        """Returns the number of channels of the latent."""
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

    def encode(
        self, x: Float[Array, "b time c"], **random: Any
    ) -> tuple[Float[Array, "b frames {self.latent_channels}"], dict[str, Array]]:
        """Encodes a sound to (latent, info). The latent has ``ceil(time / downsample_factor)`` frames.

        ``info`` is a dict with the scalar "loss" and the other entries of the bottleneck.

        Args:
            random: optional arguments ``keys``, ``draws`` and ``train`` of ``Encoder1d.__call__``, such as
                ``keys=jax.random.split(key, b)`` for a random bottleneck.

        Raises:
            InputError: the number of channels is wrong, or time is not a multiple of patch_size.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        return self.encoder(x, **random)

    def decode(self, latent: Float[Array, "b frames d"]) -> Float[Array, " b time *c"]:
        """Decodes a latent to a sound with ``frames * downsample_factor`` samples and out_channels channels.

        Raises:
            InputError: the number of channels of the latent is wrong.
        """
        return self.decoder(latent)

    def __call__(
        self, x: Float[Array, " b time *c_in"], **random: Any
    ) -> tuple[Float[Array, " b time *c_out"], dict[str, Array]]:
        """Encodes and decodes x, and returns (decoded, info). The dict info is that of :meth:`encode`, plus the entry
        "latent".

        Raises:
            InputError: time is not a multiple of downsample_factor, or the number of channels is wrong.
        """
        check_multiple(x.shape[1], self.downsample_factor, "patch_size times the factors")
        latent, info = self.encode(x, **random)
        return self.decode(latent), {"latent": latent, **info}


class MAE1d(AutoEncoder1d, kw_only=True):
    """Encodes STFT magnitudes [b, n, frequencies, c] to a latent, and decodes latents to magnitudes.

    ``net = MAE1d(stft=STFT(1024, 256, centred=False), in_channels=1, channels=32, multipliers=(1, 2, 4),
    factors=(2, 2), num_blocks=(2, 2))`` encodes magnitudes [b, n, 513, 1] to a latent [b, n / 4, 128].

        magnitudes = abs(net.stft.encode(x))
        variables = net.init(key, magnitudes)
        latent, info = net.apply(variables, magnitudes, method="encode")
        decoded = net.apply(variables, latent, method="decode")

    The layers of the net work on log-magnitudes. :class:`archijax.models.MagnitudeAutoEncoder` trains the net, and
    turns magnitudes into sound.

    Fields, in addition to the fields of :class:`AutoEncoder1d`:
        stft: the STFT that computes the magnitudes of a sound. The number of STFT frames must be a multiple of
            downsample_factor. With ``centred=False``, this number is ``time / hop_length``.
    """

    stft: STFT

    @property
    def _decoded_channels(self) -> int:
        return super()._decoded_channels * self.stft.frequencies

    def encode(
        self, magnitude: Float[Array, "b time frequencies c"], **random: Any
    ) -> tuple[Float[Array, "b frames {self.latent_channels}"], dict[str, Array]]:
        """Encodes magnitudes to (latent, info). The latent has ``ceil(time / downsample_factor)`` frames.

        ``info`` is a dict with the scalar "loss" and the other entries of the bottleneck.

        Args:
            random: optional arguments ``keys``, ``draws`` and ``train`` of ``Encoder1d.__call__``, such as
                ``keys=jax.random.split(key, b)`` for a random bottleneck.

        Raises:
            InputError: the number of frequencies or channels is wrong.
        """
        expected = (self.stft.frequencies, self.in_channels)
        if magnitude.shape[2:] != expected:
            raise InputError(
                f"magnitudes have shape {magnitude.shape}: [batch, frames, {expected[0]}, {expected[1]}] is needed"
            )
        return self.encoder(to_channels(log_magnitude(magnitude)), **random)

    def decode(self, latent: Float[Array, "b frames d"]) -> Float[Array, "b time {self.stft.frequencies} c"]:
        """Decodes a latent to ``frames * downsample_factor`` STFT frames of magnitudes, which are between e^-30 and
        e^20."""
        return jnp.exp(jnp.clip(from_channels(self.decoder(latent), self.stft.frequencies), *LOG_RANGE))

    def loss(
        self, wave: Float[Array, "b time {self.in_channels}"], **random: Any
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Encodes and decodes the magnitudes of a sound. Returns (mean absolute difference of log-magnitudes, info).

        The loss of the bottleneck is ``info["loss"]``, and is not added to the difference. Call
        ``net.apply(variables, wave, method="loss")``.
        """
        magnitude, _ = to_polar(self.stft.encode(full(wave)))
        prediction, info = self(magnitude, **random)
        return jnp.mean(jnp.abs(log_magnitude(prediction) - log_magnitude(magnitude))), info
