"""The constant-Q transform and its inverse, as an invertible non-stationary Gabor transform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.audio.stft import hann
from archijax.errors import InputError


@dataclass(frozen=True)
class CQT:
    """Complex bands at frequencies nyquist / 2 ** num_octaves * 2 ** (k / num_bins_per_octave), and the sound back.

    The sound is cut into blocks; each band is a windowed part of a block's spectrum, brought back to time (Velasco,
    Holighaus, Dörfler & Grill 2011), so that all bands have `max_window_length` frames per block. Equal to
    cqt-pytorch, which has no bands at the ends: what lies under nyquist / 2 ** num_octaves is dropped, and what lies
    above 0.99 nyquist comes back less exactly, nyquist itself hardly. `complete` adds a band for each end.

    Fields:
        num_octaves, num_bins_per_octave: K = num_octaves * num_bins_per_octave bands.
        sample_rate: in Hz.
        block_length: in samples; None is one second. A longer block tells lower bands apart; in one too short for the
            lowest, what falls between the bands is dropped too (`complete` refuses it).
        power_of_2_length: raises `max_window_length` to a power of two (the next one, if it is a power of two already).
        complete: with a band from 0 Hz to the lowest before the others, and a band around nyquist after them; decoding
            is then the inverse of encoding for every sound.
    """

    num_octaves: int
    num_bins_per_octave: int
    sample_rate: int
    block_length: int | None = None
    power_of_2_length: bool = False
    complete: bool = False

    def __post_init__(self):
        if min(self.num_octaves, self.num_bins_per_octave, self.sample_rate, self._block) < 1:
            raise InputError(
                f"CQT of {self.num_octaves} octaves with {self.num_bins_per_octave} bins at a sample rate of "
                f"{self.sample_rate} Hz in blocks of {self._block} samples: all must be at least 1"
            )
        _, lengths = self._bands
        if self.complete and lengths.min() < 4:
            # Where the windows of the two lowest bands, before rounding, are 4 bins of a block's spectrum wide.
            least = 4 * 2**self.num_octaves * max(1, 2 / (4 ** (1 / self.num_bins_per_octave) - 1))
            raise InputError(
                f"block_length {self._block} is too short to separate {self.num_bins_per_octave} bins per octave over "
                f"{self.num_octaves} octaves: use at least {math.ceil(least)}"
            )

    @property
    def num_bins(self) -> int:
        """Bands of the transform: K, and two more if complete."""
        return len(self._bands[0])

    @property
    def max_window_length(self) -> int:
        """Frames of a block."""
        longest = int(self._bands[1].max())
        return 1 << longest.bit_length() if self.power_of_2_length else longest

    def encode(self, x: jax.Array) -> jax.Array:
        """Bands [b, blocks * max_window_length, num_bins, c] of a sound [b, blocks * block_length, c], complex.

        Raises:
            InputError: a time that block_length does not divide.
        """
        b, time, c = x.shape
        if time == 0 or time % self._block:
            raise InputError(
                f"length {time} is not a multiple of {self._block} (block_length): "
                f"pad to {max(1, ceil_div(time, self._block)) * self._block}"
            )
        spectrum = jnp.fft.fft(x.reshape(-1, self._block, c), axis=1)
        crops = _scaled(spectrum[:, self._indices()], self._windows[:, :, None])
        return jnp.fft.ifft(crops, axis=1).reshape(b, -1, *crops.shape[2:])

    def decode(self, z: jax.Array) -> jax.Array:
        """The sound [b, blocks * block_length, c] of bands [b, blocks * max_window_length, num_bins, c].

        Raises:
            InputError: another number of bands, or frames that are no whole blocks.
        """
        width, bins = self._windows.shape
        if z.ndim != 4 or z.shape[2] != bins or z.shape[1] == 0 or z.shape[1] % width:
            raise InputError(f"bands have shape {z.shape}: [batch, a multiple of {width}, {bins}, channels] is needed")
        b, _, _, c = z.shape
        crops = _scaled(jnp.fft.fft(z.reshape(-1, width, bins, c), axis=1), self._windows[:, :, None])
        spectrum = jnp.zeros((len(crops), self._block, c), z.dtype).at[:, self._indices()].add(crops)
        spectrum = _scaled(spectrum, 1 / (self._overlap[:, None] + 1e-8))[:, : self._block // 2 + 1]
        return jnp.fft.irfft(spectrum, self._block, axis=1).reshape(b, -1, c)

    @property
    def _block(self) -> int:
        return self.sample_rate if self.block_length is None else self.block_length

    @cached_property
    def _bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres and widths of the windows, in bins of a block's spectrum."""
        # In float32, as the original, for the same rounding to bins. Widths are the next band's (also the original's).
        count = self.num_octaves * self.num_bins_per_octave
        octaves = np.arange(count + 1, dtype=np.float32) / np.float32(self.num_bins_per_octave)
        lowest = self.sample_rate / 2 / 2**self.num_octaves
        frequencies = np.float32(lowest) * np.float32(2) ** octaves
        quality = 1 / (2 ** (1 / self.num_bins_per_octave) - 2 ** (-1 / self.num_bins_per_octave))
        block, rate = np.float32(self._block), np.float32(self.sample_rate)
        centres = np.round(frequencies[:-1] * block / rate).astype(int)
        lengths = np.round(frequencies[1:] / np.float32(quality) * block / rate).astype(int)
        if not self.complete:
            return centres, lengths
        nyquist = self._block // 2
        return (
            np.concatenate([[0], centres, [nyquist]]),
            np.concatenate([[2 * centres[0]], lengths, [2 * (nyquist + 1 - centres[-1])]]),
        )

    @cached_property
    def _windows(self) -> np.ndarray:
        """Windows of the bands, [max_window_length, num_bins]."""
        centres, lengths = self._bands
        width = self.max_window_length
        windows = np.zeros((width, len(lengths)))
        for k, length in enumerate(lengths):
            start = math.floor(width / 2 - length / 2)
            windows[start : start + length, k] = hann(length) if length > 1 else 1.0
        if self.complete:  # flat up to where the lowest of the others rises
            distance = np.abs(np.arange(width) - width // 2)
            windows[:, 0] = np.sin(np.pi / 2 * np.clip((centres[1] - distance) / (lengths[1] // 2), 0, 1)) ** 2
        return windows

    @cached_property
    def _overlap(self) -> np.ndarray:
        """Sum of the squares of all windows, for every bin of a block's spectrum."""
        overlap = np.zeros(self._block)
        np.add.at(overlap, self._indices(np), np.square(self._windows))
        return overlap

    def _indices(self, xp=jnp):
        """Bins of a block's spectrum under the windows, [max_window_length, num_bins]; computed, not stored, by JAX."""
        width = self.max_window_length
        return (xp.arange(width)[:, None] + xp.asarray(self._bands[0] - width // 2, "int32")) % self._block


def _scaled(z: jax.Array, scale: np.ndarray) -> jax.Array:
    """z * scale; in real arithmetic, as a complex constant would be twice as large."""
    scale = jnp.asarray(scale, z.real.dtype)
    return jax.lax.complex(z.real * scale, z.imag * scale)
