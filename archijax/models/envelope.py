"""Contains nets that estimate the envelope of a sound: the level of each frequency at each time.

The nets return log-levels. The levels are factors for the spectrum of white noise of variance 1. The product of levels
and spectrum has, on average, the log-magnitudes of the sound.
"""

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
MOST = 4.0  # training sees no magnitude that is more than this number of times the level

Levels = Float[Array, "b n f c"] | Float[Array, ""]  # log-levels, or zero without an envelope


class Envelope(nn.Module):
    """Estimates the level of each frequency at each time, for a sound whose high frequencies are missing.

    ``net = Envelope(STFT(1024, 256), factor=4, channels=64, num_blocks=2)`` is a small net. ``levels =
    net.apply(net.init(key, low), low)`` turns sounds [b, time, c] into log-levels [b, frames, 513, c].

    The levels of the low frequencies are the magnitudes of the input. The levels of the high frequencies are estimated
    relative to the loudness of the input. Each channel is treated as an independent sound.

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

    @nn.compact
    def __call__(self, low: Float[Array, "b time c"]) -> Float[Array, "b frames {self.stft.frequencies} c"]:
        """Returns the natural logarithm of the level of each frame, frequency and channel."""
        known = log_magnitudes(self.stft.encode(full(low)))[:, :, : self.bins]
        b, frames, bins, c = known.shape
        known = jnp.moveaxis(known, -1, 1).reshape(b * c, frames, bins)
        loudness = 0.5 * jnp.log(jnp.mean(jnp.exp(2 * known), axis=-1, keepdims=True))
        features = jnp.concatenate([known - loudness, loudness], axis=-1) / 5  # about as large as a standard normal
        x = Linear(self.channels, self.dtype, name="to_in")(features)
        x = _estimate(x, self.num_blocks, self.stft.frequencies - bins, self.dtype)
        high = jnp.minimum(loudness + x - noise_level(self.stft), LOUDEST)
        levels = jnp.concatenate([known, high], axis=-1)
        return jnp.moveaxis(levels.reshape(b, c, frames, -1), 1, -1)

    def known(self, sound: Float[Array, "b time c"], levels: Float[Array, "*shape"]) -> Float[Array, "b time c"]:
        """Divides the spectrum of a sound by exp(levels) [b, frames, frequencies, c]. Frequencies that the net does not
        read are set to zero.
        """
        read = (np.arange(self.stft.frequencies) < self.bins)[:, None]
        return self.stft.shaped(sound, jnp.where(read, jnp.exp(-levels), 0))


class MelEnvelope(nn.Module):
    """Estimates the level of each frequency at each time from a mel spectrogram.

    ``net = MelEnvelope(STFT(1024, 256, centred=False), channels=64, num_blocks=2)`` is a small net. ``levels =
    net.apply(net.init(key, mel, first), mel, first)`` turns log-mel spectrograms mel [b, frames, bands] and log-levels
    first [b, frames, 513, 1] into log-levels [b, frames, 513, 1].

    Fields:
        stft: the transform of the sounds. It is not centred, so that a sound has one STFT frame per hop.
        channels: the number of channels of the ConvNeXt blocks, which work on STFT frames.
        num_blocks: the number of blocks.
        dtype: the type of the computation.
    """

    stft: STFT
    channels: int
    num_blocks: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, mel: Float[Array, "b n bands"], first: Float[Array, "b n f 1"]
    ) -> Float[Array, "b n {self.stft.frequencies} 1"]:
        """Returns the natural logarithm of the level of each frame and frequency.

        Args:
            mel: the spectrogram, about as large as a standard normal.
            first: the log-levels to which the net adds its output.
        """
        x = Linear(self.channels, self.dtype, name="to_in")(mel)
        x = _estimate(x, self.num_blocks, self.stft.frequencies, self.dtype)
        return jnp.minimum(x[..., None] + first, LOUDEST)


def _estimate(
    x: Float[Array, "b n c"], num_blocks: int, features: int, dtype: DTypeLike
) -> Float[Array, "b n {features}"]:
    """Applies blocks and a last layer, whose parameters belong to the calling net."""
    x = LayerNorm(name="norm_in")(x)
    for i in range(num_blocks):
        x = ConvNeXtBlock(dtype=dtype, name=f"blocks_{i}")(x)
    return full(Linear(features, dtype, name="to_out")(LayerNorm(name="norm_out")(x)))


def noise_level(stft: STFT) -> float:
    """Returns the mean log-magnitude of white noise of variance 1.

    If z is a complex Gaussian and |z|^2 has the mean m, then log |z|^2 has the mean log(m) - gamma, with Euler's
    constant gamma. Here m is ``sum(window**2) / n_fft``.
    """
    window = stft.window(stft.window_length or stft.n_fft)
    return float(0.5 * (np.log(np.sum(np.square(window)) / stft.n_fft) - np.euler_gamma))


def gains(levels: Float[Array, "*shape"], stft: STFT) -> Float[Array, "*shape"]:
    """Turns log-levels into factors for the spectrum of noise. A factor is exp(level) minus a small constant, but at
    least 0. With this constant, silence gets no noise.
    """
    return jnp.maximum(jnp.exp(levels) - SILENT * SMALL * math.exp(-noise_level(stft)), 0)


def level_error(
    levels: Float[Array, "b frames f c"], sound: Float[Array, "b time c"], stft: STFT, first: int = 0
) -> Float[Array, ""]:
    """Returns the mean squared difference between the estimated and the true natural log-magnitudes of a sound. The
    mean is over all frequency bins from the bin ``first``.
    """
    true = log_magnitudes(stft.encode(sound))[:, :, first:]
    return jnp.mean(jnp.square(levels[:, :, first:] + noise_level(stft) - true))


def raised(
    levels: Float[Array, "b frames f c"], sound: Float[Array, "b time c"], stft: STFT
) -> Float[Array, "b frames f c"]:
    """Raises log-levels in training to those of a quarter of the sound's magnitudes. Otherwise, where an estimate is
    far too low, the sound divided by the level would be hundreds of times as large as elsewhere.
    """
    return jnp.maximum(levels, log_magnitudes(stft.encode(sound)) - math.log(MOST))


def log_magnitudes(z: Complex[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the natural logarithms of the magnitudes of z, at least log(1e-5)."""
    return 0.5 * jnp.log(jnp.square(z.real) + jnp.square(z.imag) + SMALL**2)
