"""Defines discriminators that distinguish true sound from decoded sound, at several periods and resolutions.

An :class:`Adversary` combines several discriminators, as HiFi-GAN (Kong et al. 2020) and DAC (Kumar et al. 2023) do.
Each discriminator returns scores and features. Both are lists of arrays, called maps. The losses of
:mod:`archijax.codecs.losses` compare these lists.
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
"""The pair (scores, features): two lists of arrays, called maps, with several shapes."""


class PeriodDiscriminator(nn.Module):
    """Scores subsequences of a sound. The samples of a subsequence are one period apart.

    With ``net = PeriodDiscriminator(3)``, call ``scores, features = net.apply(net.init(key, x), x)`` for sounds x
    [b, time, c].

    Fields:
        period: the period in samples.
        channels: the number of channels of the first layer. The next layers have 4, 16 and 32 times as many channels.
    """

    period: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Maps:
        """Returns (scores, features). The scores are a list of one map [b * c * period, n, 1].

        The features are a list of four maps [b * c * period, n, channels * k] with k = 1, 4, 16 and 32. Before the
        first layer, n is ``ceil(time / period)``. Each layer divides n by 3, rounded up. The scores have the n of the
        last layer.
        """
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
    """Applies a convolution with kernel size 5, stride 3 and zero padding. ``n`` positions become ``ceil(n / 3)``."""

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
    """Scores the spectra of a sound at one resolution. Magnitudes are compressed, so quiet sound counts too.

    With ``net = SpectrumDiscriminator(1024)``, call ``scores, features = net.apply(net.init(key, x), x)`` for sounds x
    [b, time, c] that are longer than ``window / 2``.

    Fields:
        window: the number of samples of an STFT frame, a multiple of 64.
        channels: the number of channels of every layer.
    """

    window: int
    channels: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Maps:
        """Returns (scores, features). The scores are a list of one map [b, frames, window / 64, 1].

        The features are a list of four maps [b, frames, n, channels] where n is ``window / 8``, ``window / 16``,
        ``window / 32`` and ``window / 64``. The number of frames is ``time // (window / 4) + 1``.

        Raises:
            InputError: window is not a multiple of 64, or the sound is too short.
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
    """Applies a convolution with kernel size 3 x 3. The result has as many frames and frequencies as the input."""

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
    """Joins each group of ``factor`` neighbouring frequencies to one frequency, with ``factor`` times as many
    channels."""
    return x.reshape(*x.shape[:2], x.shape[2] // factor, -1)


class Adversary(nn.Module):
    """Combines several discriminators, with the same call as :class:`archijax.codecs.discriminator.Discriminator1d`.

    ``variables = Adversary().init(key, true, fake)`` and ``Adversary().apply(variables, true, fake)`` take two batches
    of sounds [b, time, c], longer than half of the longest window. The field ``discriminator`` of
    :class:`archijax.AutoEncoder` can be an Adversary.

    Fields:
        periods: the period of each :class:`PeriodDiscriminator`, in samples.
        windows: the window of each :class:`SpectrumDiscriminator`, in samples; multiples of 64.
        channels: the number of channels of the first layer of each discriminator.

    Raises:
        InputError: both periods and windows are empty.
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
        """Returns (scores, features) of a sound. Both lists are the concatenated lists of all discriminators.

        Each discriminator adds one map of scores and four maps of features. Call
        ``net.apply(variables, x, method="stages")``.
        """
        pairs = [net(x) for net in (*self.by_period, *self.by_window)]
        return [score for scores, _ in pairs for score in scores], [f for _, features in pairs for f in features]

    def __call__(
        self, true: Float[Array, "b time c"], fake: Float[Array, "b time c"]
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """Returns (loss_generator, loss_discriminator, info) for true and decoded sounds of the same shape.

        The scalar loss_generator is the feature matching loss minus the mean score of ``fake``. The scalar
        loss_discriminator is the hinge loss. ``info`` is a dict with the scalar "feature_matching", and the mean scores
        "scores_true" and "scores_fake" [discriminators].
        """
        return adversarial_losses(*self.stages(true), *self.stages(fake))
