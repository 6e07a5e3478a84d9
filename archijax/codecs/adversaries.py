"""Adversaries: discriminators that tell true sound from decoded sound, at several periods and resolutions.

As in HiFi-GAN (Kong et al. 2020) and DAC (Kumar et al. 2023), several discriminators complement each other. Scores and
features are lists of maps, which the losses of :mod:`archijax.codecs.losses` compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.audio.stft import STFT
from archijax.codecs.frames import compressed
from archijax.codecs.losses import adversarial_losses
from archijax.errors import InputError
from archijax.nn.arrays import biased, full
from archijax.nn.linear import Conv, pad_positions, strided_conv, uniform_init

SLOPE = 0.1  # slope of the leaky ReLU at negative inputs
STRIDE = 3  # stride of the convolutions of a period discriminator
PATCH = 4  # neighbouring frequencies that become one position
FOLDS = 3  # halvings of the number of frequencies in a spectrum discriminator

Maps = tuple[list[Float[Array, "..."]], list[Float[Array, "..."]]]
"""(scores, features): two lists of maps, which are arrays of several shapes."""


class PeriodDiscriminator(nn.Module):
    """Scores a sound by subsequences of samples that are one period apart.

    Fields:
        period: the period in samples.
        channels: number of channels of the first layer; the next layers have 4, 16 and 32 times as many.
    """

    period: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Maps:
        """Returns (scores, features), two lists of maps [b * c * period, n, channels]."""
        b, n, c = x.shape
        x = jnp.pad(x, ((0, 0), (0, -n % self.period), (0, 0)))
        # Each subsequence of samples one period apart becomes an item.
        x = x.reshape(b, -1, self.period, c).transpose(0, 3, 2, 1).reshape(b * c * self.period, -1, 1)
        features = []
        for i, times in enumerate((1, 4, 16, 32)):
            x = nn.leaky_relu(_StridedConv(times * self.channels, name=f"layers_{i}")(x), SLOPE)
            features.append(x)
        return [full(Conv(1, 3, name="to_score")(x))], features


class _StridedConv(nn.Module):
    """Convolution with kernel 5, stride 3 and zero padding: n positions become n / 3, rounded up."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b -(-n//3) {self.features}"]:
        init = uniform_init(5 * x.shape[-1])
        kernel = self.param("kernel", init, (5, x.shape[-1], self.features))
        # strided_conv needs a kernel size that is a multiple of the stride, so one zero is added.
        kernel = jnp.pad(kernel, ((0, 1), (0, 0), (0, 0)))
        x = jnp.pad(x, ((0, 0), (2, 1 + -x.shape[1] % STRIDE), (0, 0)))
        return biased(strided_conv(x, kernel, STRIDE), self.param("bias", init, (self.features,)))


class SpectrumDiscriminator(nn.Module):
    """Scores the complex spectra of a sound at one resolution.

    The magnitudes of the spectra are compressed, so that quiet sound counts too.

    Fields:
        window: number of samples of an STFT frame, a multiple of 64.
        channels: number of channels of every layer.
    """

    window: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Maps:
        """Returns (scores, features), two lists of maps [b, frames, n, channels].

        Raises:
            InputError: window is not a multiple of 64.
        """
        if self.window % (2 * PATCH << FOLDS):
            raise InputError(f"the window has {self.window} samples: a multiple of {2 * PATCH << FOLDS} is needed")
        # The highest frequency is dropped, so that the number of frequencies can be halved.
        spectra = jnp.concatenate(compressed(STFT(self.window, self.window // 4).encode(full(x))), axis=-1)
        x, features = _fold(spectra[:, :, :-1], PATCH), []
        for i in range(FOLDS + 1):
            x = nn.leaky_relu(_PlaneConv(self.channels, name=f"layers_{i}")(x if i == 0 else _fold(x, 2)), SLOPE)
            features.append(x)
        return [full(_PlaneConv(1, name="to_score")(x))], features


class _PlaneConv(nn.Module):
    """Convolution with kernel 3 x 3 over frames and frequencies, which keeps their numbers."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n f c"]) -> Float[Array, "b n f {self.features}"]:
        init = uniform_init(9 * x.shape[-1])
        kernel = self.param("kernel", init, (9 * x.shape[-1], self.features))
        # One matrix product of all neighbourhoods is faster on CPU than a convolution with few channels.
        frames, frequencies = x.shape[1:3]
        padded = pad_positions(x, 1)
        neighbours = [padded[:, i : i + frames, j : j + frequencies] for i in range(3) for j in range(3)]
        return biased(jnp.concatenate(neighbours, axis=-1) @ kernel, self.param("bias", init, (self.features,)))


def _fold(x: Float[Array, "b n f c"], factor: int) -> Float[Array, "b n f//{factor} c*{factor}"]:
    """Joins each group of neighbouring frequencies to one frequency with more channels."""
    return x.reshape(*x.shape[:2], x.shape[2] // factor, -1)


class Adversary(nn.Module):
    """Several discriminators, called like :class:`archijax.codecs.discriminator.Discriminator1d`.

    ``variables = Adversary().init(key, true, fake)`` and ``Adversary().apply(variables, true, fake)`` take two batches
    of sounds [b, time, c]. The field ``discriminator`` of :class:`archijax.AutoEncoder` may be an Adversary.

    Fields:
        periods: the period of each period discriminator, in samples.
        windows: the window of each spectrum discriminator, in samples; multiples of 64.
        channels: number of channels of each discriminator's first layer.

    Raises:
        InputError: there are neither periods nor windows.
    """

    periods: Sequence[int] = (2, 3, 5, 7, 11)
    windows: Sequence[int] = (2048, 1024, 512)
    channels: int = 32

    def setup(self):
        if not (self.periods or self.windows):
            raise InputError("an adversary needs periods or windows, but both are empty: pass at least one")
        self.by_period = [PeriodDiscriminator(period, self.channels) for period in self.periods]
        self.by_window = [SpectrumDiscriminator(window, self.channels) for window in self.windows]

    def stages(self, x: Float[Array, "b time c"]) -> Maps:
        """Returns (scores, features) of a sound: the joined lists of all discriminators."""
        pairs = [net(x) for net in (*self.by_period, *self.by_window)]
        return [score for scores, _ in pairs for score in scores], [f for _, features in pairs for f in features]

    def __call__(
        self, true: Float[Array, "b time c"], fake: Float[Array, "b time c"]
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """Returns (loss of the generator, loss of the discriminator, info) for true and decoded sound.

        :class:`archijax.codecs.discriminator.Discriminator1d` explains the losses.
        """
        return adversarial_losses(*self.stages(true), *self.stages(fake))
