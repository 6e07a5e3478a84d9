"""Computes mel spectrograms of sound, and estimates linear magnitudes from mel spectrograms."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from archijax.audio.stft import STFT, to_polar
from archijax.errors import InputError

_LOG_FLOOR = 1e-5  # as in the PyTorch originals: log(1e-5) = -11.5 is silence
_TINY = 1e-30  # at smaller numbers the gradient of a root is not finite in float32
_FLOOR = 1e-12  # avoids 0 / 0 at silence; its square does not underflow in float32


def mel_filters(n_fft: int, sample_rate: float, count: int) -> Float32[np.ndarray, "{n_fft}//2+1 {count}"]:
    """Returns triangular filters of height 1, evenly spaced on the HTK mel scale from 0 Hz to Nyquist.

    The HTK mel scale is mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy 1987). As in the PyTorch originals, each
    intermediate result is rounded to float32, so the filters have errors of up to 1e-5. The highest bin counts as
    Nyquist, even if n_fft is odd.

    Args:
        n_fft: the length of a frame in samples.
        sample_rate: in Hz.
        count: the number of filters, which are the columns of the result.
    """
    bins = _evenly(sample_rate // 2, n_fft // 2 + 1)[:, None]
    mels = _evenly(2595 * np.log10(1 + (sample_rate // 2) / 700), count + 2)
    points = np.float32(700) * (_power_of_ten(mels / np.float32(2595)) - np.float32(1))
    width, distance = np.diff(points), points - bins
    return np.maximum(0, np.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]))


def _evenly(end: float | np.floating, count: int) -> Float32[np.ndarray, " {count}"]:
    """Returns evenly spaced numbers from 0 to end. The step is rounded to float32. Steps are added to 0 in the first
    half, and subtracted from end in the second half."""
    end, i = np.float32(end), np.arange(count)
    step = np.float64(end / np.float32(count - 1))
    return np.where(i < count // 2, step * i, end - step * (count - 1 - i)).astype(np.float32)


# exp(s) = 1 + s + s^2 (c0 s^4 + ... + c4) for |s| <= log(2) / 2. PyTorch computes powers with this minimax polynomial
# of Sleef (Shibata & Petrogalli 2020). An error in its last bit changes a filter by 5e-6.
_EXPONENTIAL = np.float32([0.0013632465, 0.008365969, 0.041671082, 0.16666552, 0.49999985])


def _power_of_ten(y: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Returns 10^y, rounded as in the PyTorch originals."""
    exponent = y.astype(np.float64) * np.log(10.0)
    octaves = np.rint(exponent / np.log(2.0))
    s = exponent - octaves * np.log(2.0)
    rounded, series = s.astype(np.float32).astype(np.float64), np.float32(0)
    for coefficient in _EXPONENTIAL:
        series = (series * rounded + coefficient).astype(np.float32)
    return np.ldexp((1 + (s + s * s * series)).astype(np.float32), octaves.astype(np.int32))


@dataclass(frozen=True)
class MelSpectrogram:
    """Computes mel spectrograms, as the vocoder and the mel encoder of the PyTorch originals do.

    ``MelSpectrogram(n_fft=1024, hop_length=256).encode(x)`` turns sound x [b, time, c] into a mel spectrogram
    [b, time // 256, 80, c]. :func:`mel_to_audio` turns mel spectrograms into sound. Frames have a Hann window and are
    not centred. The sound is first extended at each end by reflection of ``(n_fft - hop_length) // 2`` samples.

    Fields:
        n_fft: the length of a frame in samples.
        hop_length: the number of samples from one frame to the next frame.
        window_length: the length of the window in samples; None: n_fft.
        sample_rate: in Hz.
        n_mel_channels: the number of mel bands.
        normalize: the scale of the result. None: mel magnitudes, which are the mel filters applied to unscaled STFT
            magnitudes. "log": the natural logarithm of mel magnitudes, which are first clipped to at least 1e-5. "max":
            mel magnitudes divided by the maximum of the sound; the fourth root of the quotient is mapped from [0, 1] to
            [-1, 1]. The PyTorch original divides by the maximum of the whole batch.

    Raises:
        InputError: the fields do not fit each other.
    """

    n_fft: int = 1024
    hop_length: int = 256
    window_length: int | None = None
    sample_rate: int = 48_000
    n_mel_channels: int = 80
    normalize: Literal["log", "max"] | None = None

    def __post_init__(self):
        self.stft  # noqa: B018 - it checks the lengths
        if self.n_mel_channels < 1 or self.sample_rate < 2:
            raise InputError(
                f"{self.n_mel_channels} mel channels at a sample rate of {self.sample_rate} Hz: "
                "at least 1 channel and 2 Hz are needed"
            )
        if self.normalize not in (None, "log", "max"):
            raise InputError(f'normalize is {self.normalize!r}: it must be None, "log" or "max"')

    @property
    def stft(self) -> STFT:
        """Returns the STFT. The mel filters are applied to its magnitudes, multiplied by ``n_fft ** 0.5``."""
        return STFT(self.n_fft, self.hop_length, self.window_length, centred=False)

    def encode(self, x: Float[Array, "b time c"]) -> Float[Array, "b frames {self.n_mel_channels} c"]:
        """Computes the mel spectrogram of a sound.

        The number of frames is ``time // hop_length`` if ``n_fft - hop_length`` is even, else
        ``(time - 1) // hop_length``.

        Raises:
            InputError: the sound is too short for a frame or for reflection padding. If ``n_fft - hop_length`` is even,
                time must be at least ``hop_length`` and larger than ``(n_fft - hop_length) // 2``.
        """
        padding = (self.n_fft - self.hop_length) // 2
        least = max(padding + 1, self.n_fft - 2 * padding)
        if x.shape[1] < least:
            raise InputError(f"length {x.shape[1]} is too short for n_fft {self.n_fft}: use at least {least}")
        z = self.stft.analyse(jnp.pad(x, ((0, 0), (padding, padding), (0, 0)), mode="reflect"))
        magnitude = to_polar(z)[0] * self.n_fft**0.5
        mel = jnp.einsum("btfc,fm->btmc", magnitude, self._filters(magnitude.dtype), precision="highest")
        if self.normalize == "log":
            return jnp.log(jnp.maximum(mel, _LOG_FLOOR))
        if self.normalize == "max":
            ratio = mel / jnp.maximum(mel.max((1, 2, 3), keepdims=True), _TINY)
            return 2 * jnp.where(ratio > _TINY, jnp.maximum(ratio, _TINY) ** 0.25, 0) - 1
        return mel

    def to_magnitude(
        self,
        mel: Float[Array, "b frames {self.n_mel_channels} c"],
        num_steps: int = 64,
        first: Float[Array, "b frames f c"] | None = None,
    ) -> Float[Array, "b frames {self.n_fft}//2+1 c"]:
        """Estimates magnitudes of :attr:`stft` whose mel spectrogram is approximately ``mel``.

        The method is non-negative least squares by multiplicative updates (Lee & Seung 2001). The result is zero at 0
        Hz and Nyquist, where all filters are zero. If normalize is "max", the level of the sound is unknown, and the
        largest mel magnitude of the result is about 1.

        Args:
            mel: the result of :meth:`encode`.
            num_steps: the number of updates after the first estimate.
            first: the first estimate, magnitudes above 0 in the shape of the result, or None to interpolate over
                frequency between the mean magnitudes of the mel bands. The updates change each mel band as a whole, so
                that the result keeps the details of the first estimate.

        Raises:
            InputError: the number of mel bands is wrong.
        """
        if mel.ndim != 4 or mel.shape[2] != self.n_mel_channels:
            raise InputError(
                f"a mel spectrogram of shape {mel.shape}: [batch, frames, {self.n_mel_channels}, channels] is needed"
            )
        if self.normalize == "log":
            mel = jnp.where(mel > np.log(_LOG_FLOOR), jnp.exp(mel), 0)
        if self.normalize == "max":
            mel = jnp.square(jnp.square((mel + 1) / 2))
        filters = self._filters(mel.dtype)
        down = functools.partial(jnp.einsum, "btfc,fm->btmc", precision="highest")
        up = functools.partial(jnp.einsum, "btmc,fm->btfc", precision="highest")

        def step(magnitude, _):
            return magnitude * target / (up(down(magnitude, filters), filters) + _FLOOR), None

        target = up(jnp.maximum(mel, 0), filters)
        if first is None:
            start = target / (up(down(jnp.ones_like(target), filters), filters) + _FLOOR)
        else:
            start = first * self.n_fft**0.5
        magnitude, _ = jax.lax.scan(step, start, length=num_steps)
        return magnitude / self.n_fft**0.5

    def envelope(
        self, mel: Float[Array, "b frames {self.n_mel_channels} c"]
    ) -> Float[Array, "b frames {self.n_fft}//2+1 c"]:
        """Computes a smooth envelope of the magnitudes of :attr:`stft` from a mel spectrogram, the result of
        :meth:`encode`.

        The envelope interpolates over frequency between the mean magnitudes of the mel bands, and is at least 1e-5.

        Raises:
            InputError: normalize is "max". The level of the sound is then unknown.
        """
        if self.normalize == "max":
            raise InputError('a mel spectrogram with normalize "max" has lost its level: use None or "log"')
        mel = jnp.exp(mel) if self.normalize == "log" else jnp.maximum(mel, _LOG_FLOOR)
        filters = np.asarray(mel_filters(self.n_fft, self.sample_rate, self.n_mel_channels), np.float64)
        width = filters.sum(0)
        # Bins outside of all filters, such as 0 Hz and Nyquist, get the value of the nearest bin inside a filter.
        inside = np.flatnonzero(filters.sum(1) > 0)
        nearest = inside[np.abs(np.arange(len(filters))[:, None] - inside).argmin(1)]
        mix = filters[nearest] / filters[nearest].sum(1, keepdims=True)
        bands = mel / np.maximum(width, _TINY)[:, None].astype(mel.dtype)
        magnitude = jnp.einsum("btmc,fm->btfc", bands, jnp.asarray(mix, mel.dtype), precision="highest")
        return jnp.maximum(magnitude / self.n_fft**0.5, _LOG_FLOOR)

    def _filters(self, dtype) -> Float[Array, "{self.n_fft}//2+1 {self.n_mel_channels}"]:
        return jnp.asarray(mel_filters(self.n_fft, self.sample_rate, self.n_mel_channels), dtype)
