"""Mel spectrograms, and linear magnitudes estimated back from them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.stft import STFT, to_polar
from archijax.errors import InputError

_LOG_FLOOR = 1e-5  # of the originals: log(1e-5) = -11.5 is silence
_TINY = 1e-30  # below it a root's gradient is not finite in float32
_FLOOR = 1e-12  # keeps silence from 0 / 0; its square is still a float32


def mel_filters(n_fft: int, sample_rate: float, count: int) -> np.ndarray:
    """Triangular filters float32 [n_fft // 2 + 1, count] of height 1, evenly spaced on the HTK mel scale to Nyquist.

    mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy 1987). The bins are taken to reach Nyquist for odd n_fft too, as the
    originals do; like theirs, each step is rounded to float32, by which a filter differs up to 1e-5 from the exact one.
    """
    bins = _evenly(sample_rate // 2, n_fft // 2 + 1)[:, None]
    mels = _evenly(2595 * np.log10(1 + (sample_rate // 2) / 700), count + 2)
    points = np.float32(700) * (_power_of_ten(mels / np.float32(2595)) - np.float32(1))
    width, distance = np.diff(points), points - bins
    return np.maximum(0, np.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]))


def _evenly(end: float, count: int) -> np.ndarray:
    """float32 from 0 to end, counted from the nearer end in steps that are rounded too."""
    end, i = np.float32(end), np.arange(count)
    step = np.float64(end / np.float32(count - 1))
    return np.where(i < count // 2, step * i, end - step * (count - 1 - i)).astype(np.float32)


# exp(s) = 1 + s + s^2 (c0 s^4 + ... + c4) for |s| <= log(2) / 2, the minimax polynomial of Sleef's exponential (Shibata
# & Petrogalli 2020), which PyTorch computes powers with. Its last bit decides over 5e-6 of a filter.
_EXPONENTIAL = np.float32([0.0013632465, 0.008365969, 0.041671082, 0.16666552, 0.49999985])


def _power_of_ten(y: np.ndarray) -> np.ndarray:
    """10^y in float32, rounded as by the originals."""
    exponent = y.astype(np.float64) * np.log(10.0)
    octaves = np.rint(exponent / np.log(2.0))
    s = exponent - octaves * np.log(2.0)
    rounded, series = s.astype(np.float32).astype(np.float64), np.float32(0)
    for coefficient in _EXPONENTIAL:
        series = (series * rounded + coefficient).astype(np.float32)
    return np.ldexp((1 + (s + s * s * series)).astype(np.float32), octaves.astype(np.int32))


@dataclass(frozen=True)
class MelSpectrogram:
    """Magnitudes in mel bands, as the originals' vocoder and mel encoder compute them.

    Frames are Hann-windowed and not centred: the sound is reflected by (n_fft - hop_length) // 2 samples at its ends.

    Fields:
        n_fft, hop_length, window_length: of the frames, in samples; window_length None is n_fft.
        sample_rate: in Hz.
        n_mel_channels: bands.
        normalize: None gives magnitudes (of an STFT that is not scaled); "log" their natural logarithm, from
            log(1e-5); "max" divides by the largest of each item and takes the fourth root, scaled to [-1, 1]. (The
            original's maximum is over the batch, so that an item depends on its neighbours.)
    """

    n_fft: int = 1024
    hop_length: int = 256
    window_length: int | None = None
    sample_rate: int = 48_000
    n_mel_channels: int = 80
    normalize: Literal["log", "max"] | None = None

    def __post_init__(self):
        self.stft  # noqa: B018 - checks its lengths
        if self.n_mel_channels < 1 or self.sample_rate < 2:
            raise InputError(
                f"{self.n_mel_channels} mel channels at a sample rate of {self.sample_rate} Hz: "
                "at least 1 channel and 2 Hz are needed"
            )
        if self.normalize not in (None, "log", "max"):
            raise InputError(f'normalize is {self.normalize!r}: None, "log" and "max" are known')

    @property
    def stft(self) -> STFT:
        """The transform whose magnitudes these are, times n_fft ** 0.5."""
        return STFT(self.n_fft, self.hop_length, self.window_length, centred=False)

    def encode(self, x: jax.Array) -> jax.Array:
        """The mel spectrogram [b, frames, n_mel_channels, c] of a sound [b, time, c] of any time.

        There are time // hop_length frames if n_fft - hop_length is even, else (time - 1) // hop_length.

        Raises:
            InputError: a sound too short to be reflected or to hold a frame.
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

    def to_magnitude(self, mel: jax.Array, num_steps: int = 64) -> jax.Array:
        """Non-negative magnitudes of :attr:`stft`, [b, frames, n_fft // 2 + 1, c], whose mel bands are nearly these.

        Non-negative least squares by multiplicative steps (Lee & Seung 2001), from magnitudes spread evenly under each
        filter. At 0 Hz and Nyquist, which no filter sees, the result is zero. After "max" the level is lost: the
        largest band becomes 1.

        Raises:
            InputError: another number of bands.
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
        even = target / (up(down(jnp.ones_like(target), filters), filters) + _FLOOR)
        magnitude, _ = jax.lax.scan(step, even, length=num_steps)
        return magnitude / self.n_fft**0.5

    def envelope(self, mel: jax.Array) -> jax.Array:
        """Magnitudes of :attr:`stft` [b, frames, n_fft // 2 + 1, c]: the bands' means, mixed by the filters.

        Smooth, unlike :meth:`to_magnitude`, and above zero: silence is 1e-5. Not for "max", which has lost the level.
        """
        if self.normalize == "max":
            raise InputError('a mel spectrogram normalised by "max" has no level: None or "log" is needed')
        mel = jnp.exp(mel) if self.normalize == "log" else jnp.maximum(mel, _LOG_FLOOR)
        filters = np.asarray(mel_filters(self.n_fft, self.sample_rate, self.n_mel_channels), np.float64)
        width = filters.sum(0)
        # Bins that no filter sees, such as 0 Hz and Nyquist, take after the nearest that one does.
        seen = np.flatnonzero(filters.sum(1) > 0)
        nearest = seen[np.abs(np.arange(len(filters))[:, None] - seen).argmin(1)]
        mix = filters[nearest] / filters[nearest].sum(1, keepdims=True)
        bands = mel / np.maximum(width, _TINY)[:, None].astype(mel.dtype)
        magnitude = jnp.einsum("btmc,fm->btfc", bands, jnp.asarray(mix, mel.dtype), precision="highest")
        return jnp.maximum(magnitude / self.n_fft**0.5, _LOG_FLOOR)

    def _filters(self, dtype) -> jax.Array:
        return jnp.asarray(mel_filters(self.n_fft, self.sample_rate, self.n_mel_channels), dtype)
