"""Contains a net that estimates the envelope of a sound's high band from the low band."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from archijax.audio.stft import STFT
from archijax.codecs.frames import SMALL, ConvNeXtBlock
from archijax.nn.arrays import full
from archijax.nn.linear import Linear
from archijax.nn.norms import LayerNorm

# The share of the low band that the nets read. Resamplers weaken the frequencies above it, each in another way. A net
# that reads them takes the weakening of another resampler for the end of the spectrum.
KNOWN = 0.875
SILENT = 1.5  # estimates up to this number of times the lowest level count as silence
LOUDEST = 7.0  # the largest log-level; a sound in [-1, 1] stays below it


class Envelope(nn.Module):
    """Estimates the level of each frequency at each time, for a sound whose high frequencies are missing.

    ``net = Envelope(STFT(1024, 256), factor=4, channels=64, num_blocks=2)`` is a small net. ``levels =
    net.apply(net.init(key, low), low)`` turns sounds [b, time, c] into log-levels [b, frames, 513, c].

    The levels of the low frequencies are the magnitudes of the input. The levels of the high frequencies are estimated
    relative to the loudness of the input. The levels are factors for the spectrum of white noise of variance 1. The
    product of levels and spectrum has, on average, the log-magnitudes of the sound. Each channel is treated as an
    independent sound.

    Fields:
        stft: the transform of the sounds, such as ``STFT(1024, 256)``.
        factor: a number. The low band ends at ``1 / factor`` of the highest frequency of the sounds. The net reads
            seven eighths of the low band, and estimates the levels of all higher frequencies.
        channels: the number of channels of the ConvNeXt blocks, which work on frames.
        num_blocks: the number of blocks.
        dtype: the type of the computation.
    """

    stft: STFT
    factor: int
    channels: int
    num_blocks: int
    dtype: DTypeLike = jnp.float32

    @property
    def bins(self) -> int:
        """The number of frequency bins, from 0 Hz upwards, that the net reads."""
        return int(KNOWN * (self.stft.frequencies // self.factor))

    @property
    def noise(self) -> float:
        """The mean log-magnitude of white noise of variance 1.

        If z is a complex Gaussian and |z|^2 has the mean m, then log |z|^2 has the mean log(m) - gamma, with Euler's
        constant gamma. Here m is ``sum(window**2) / n_fft``.
        """
        window = self.stft.window(self.stft.window_length or self.stft.n_fft)
        return float(0.5 * (np.log(np.sum(np.square(window)) / self.stft.n_fft) - np.euler_gamma))

    @nn.compact
    def __call__(self, low: Float[Array, "b time c"]) -> Float[Array, "b frames {self.stft.frequencies} c"]:
        """Returns the natural logarithm of the level of each frame, frequency and channel."""
        known = log_magnitudes(self.stft.encode(full(low)))[:, :, : self.bins]
        b, frames, bins, c = known.shape
        known = jnp.moveaxis(known, -1, 1).reshape(b * c, frames, bins)
        loudness = 0.5 * jnp.log(jnp.mean(jnp.exp(2 * known), axis=-1, keepdims=True))
        features = jnp.concatenate([known - loudness, loudness], axis=-1) / 5  # about as large as a standard normal
        x = LayerNorm(name="norm_in")(Linear(self.channels, self.dtype, name="to_in")(features))
        for i in range(self.num_blocks):
            x = ConvNeXtBlock(dtype=self.dtype, name=f"blocks_{i}")(x)
        x = Linear(self.stft.frequencies - bins, self.dtype, name="to_out")(LayerNorm(name="norm_out")(x))
        high = jnp.minimum(loudness + full(x) - self.noise, LOUDEST)
        levels = jnp.concatenate([known, high], axis=-1)
        return jnp.moveaxis(levels.reshape(b, c, frames, -1), 1, -1)

    def gains(self, levels: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Turns log-levels into factors for the spectrum of noise. A factor is exp(level) minus a small constant, but
        at least 0. With this constant, silence gets no noise.
        """
        return jnp.maximum(jnp.exp(levels) - SILENT * SMALL * math.exp(-self.noise), 0)

    def known(self, sound: Float[Array, "b time c"], levels: Float[Array, "*shape"]) -> Float[Array, "b time c"]:
        """Divides the spectrum of a sound by exp(levels) [b, frames, frequencies, c]. Frequencies that the net does not
        read are set to zero.
        """
        read = (np.arange(self.stft.frequencies) < self.bins)[:, None]
        return self.stft.shaped(sound, jnp.where(read, jnp.exp(-levels), 0))

    def error(
        self, levels: Float[Array, "b frames {self.stft.frequencies} c"], sound: Float[Array, "b time c"]
    ) -> Float[Array, ""]:
        """Returns the mean squared difference between the estimated and the true natural log-magnitudes of a sound. The
        mean is over all frequencies that the net does not read.
        """
        true = log_magnitudes(self.stft.encode(sound))[:, :, self.bins :]
        return jnp.mean(jnp.square(levels[:, :, self.bins :] + self.noise - true))


def log_magnitudes(z: Complex[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the natural logarithms of the magnitudes of z, at least log(1e-5)."""
    return 0.5 * jnp.log(jnp.square(z.real) + jnp.square(z.imag) + SMALL**2)
