"""Adversaries: nets that score sound as true or decoded at several periods and resolutions.

After HiFi-GAN (Kong et al. 2020) and DAC (Kumar et al. 2023): what each hears badly another hears well. Scores and
features are lists of maps, which the losses of :mod:`archijax.codecs.losses` compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.audio.stft import STFT
from archijax.codecs.frames import compressed
from archijax.codecs.losses import adversarial_losses
from archijax.errors import InputError
from archijax.nn.arrays import biased, full
from archijax.nn.linear import Conv, pad_positions, strided_conv, uniform_init

SLOPE = 0.1  # of the leaky units
STRIDE = 3  # of a period's convolutions
PATCH = 4  # frequencies that become one position
FOLDS = 3  # times that a resolution's frequencies are halved

Maps = tuple[list[jax.Array], list[jax.Array]]


class PeriodDiscriminator(nn.Module):
    """Scores a sound by the samples that are a period apart: what repeats, and what should.

    Fields:
        period: in samples.
        channels: of the first layer; the following ones have 4, 16 and 32 times as many.
    """

    period: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> Maps:
        """(scores, features) of a sound [b, time, c]: lists of maps [b * c * period, n, channels]."""
        b, n, c = x.shape
        x = jnp.pad(x, ((0, 0), (0, -n % self.period), (0, 0)))
        # A column of samples one period apart is an item of its own.
        x = x.reshape(b, -1, self.period, c).transpose(0, 3, 2, 1).reshape(b * c * self.period, -1, 1)
        features = []
        for i, times in enumerate((1, 4, 16, 32)):
            x = nn.leaky_relu(_StridedConv(times * self.channels, name=f"layers_{i}")(x), SLOPE)
            features.append(x)
        return [full(Conv(1, 3, name="to_score")(x))], features


class _StridedConv(nn.Module):
    """Convolution of kernel 5 and stride 3, zeros around: [b, n, c] -> [b, n / 3 rounded up, features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_init(5 * x.shape[-1])
        kernel = self.param("kernel", init, (5, x.shape[-1], self.features))
        # A zero makes the kernel a multiple of the stride, as strided_conv needs.
        kernel = jnp.pad(kernel, ((0, 1), (0, 0), (0, 0)))
        x = jnp.pad(x, ((0, 0), (2, 1 + -x.shape[1] % STRIDE), (0, 0)))
        return biased(strided_conv(x, kernel, STRIDE), self.param("bias", init, (self.features,)))


class SpectrumDiscriminator(nn.Module):
    """Scores the complex spectra of one resolution, their magnitudes compressed so that quiet parts count.

    Fields:
        window: samples of a frame; a multiple of 64.
        channels: of every layer.
    """

    window: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> Maps:
        """(scores, features) of a sound [b, time, c]: lists of maps [b, frames, frequencies / n, channels]."""
        if self.window % (2 * PATCH << FOLDS):
            raise InputError(f"a window of {self.window} samples: a multiple of {2 * PATCH << FOLDS} is needed")
        # Without the highest frequency, so that their number halves.
        spectra = jnp.concatenate(compressed(STFT(self.window, self.window // 4).encode(full(x))), axis=-1)
        x, features = _fold(spectra[:, :, :-1], PATCH), []
        for i in range(FOLDS + 1):
            x = nn.leaky_relu(_PlaneConv(self.channels, name=f"layers_{i}")(x if i == 0 else _fold(x, 2)), SLOPE)
            features.append(x)
        return [full(_PlaneConv(1, name="to_score")(x))], features


class _PlaneConv(nn.Module):
    """Convolution of kernel 3 x 3 over frames and frequencies, which keeps their number."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_init(9 * x.shape[-1])
        kernel = self.param("kernel", init, (9 * x.shape[-1], self.features))
        # As one matrix product of what lies around each position: on CPU faster than a convolution of few channels.
        frames, frequencies = x.shape[1:3]
        padded = pad_positions(x, 1)
        around = [padded[:, i : i + frames, j : j + frequencies] for i in range(3) for j in range(3)]
        return biased(jnp.concatenate(around, axis=-1) @ kernel, self.param("bias", init, (self.features,)))


def _fold(x: jax.Array, factor: int) -> jax.Array:
    """Neighbouring frequencies as channels: [b, n, f, c] -> [b, n, f / factor, factor * c]."""
    return x.reshape(*x.shape[:2], x.shape[2] // factor, -1)


class Adversary(nn.Module):
    """Several discriminators at once, with the interface of :class:`archijax.codecs.discriminator.Discriminator1d`.

    Fields:
        periods: one discriminator each, in samples.
        windows: one discriminator each, in samples.
        channels: of the first layers.
    """

    periods: Sequence[int] = (2, 3, 5, 7, 11)
    windows: Sequence[int] = (2048, 1024, 512)
    channels: int = 32

    def setup(self):
        if not (self.periods or self.windows):
            raise InputError("an adversary without periods and windows hears nothing: give one of either")
        self.by_period = [PeriodDiscriminator(period, self.channels) for period in self.periods]
        self.by_window = [SpectrumDiscriminator(window, self.channels) for window in self.windows]

    def stages(self, x: jax.Array) -> Maps:
        """Scores and features of a sound [b, time, c], lists of maps."""
        pairs = [net(x) for net in (*self.by_period, *self.by_window)]
        return [score for scores, _ in pairs for score in scores], [f for _, features in pairs for f in features]

    def __call__(self, true: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """The losses of generator and discriminator for true and decoded sound [b, time, c], and info.

        As of :class:`archijax.codecs.discriminator.Discriminator1d`.
        """
        return adversarial_losses(*self.stages(true), *self.stages(fake))
