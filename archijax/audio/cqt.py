"""Computes the constant-Q transform and its inverse by an invertible non-stationary Gabor transform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from archijax.arithmetic import ceil_div
from archijax.audio.stft import hann
from archijax.errors import InputError


@dataclass(frozen=True)
class CQT:
    """Encodes sound to the complex bands of a constant-Q transform, and decodes bands to sound.

    ``CQT(num_octaves=8, num_bins_per_octave=12, sample_rate=48000).encode(x)`` turns sound x [b, 48000 * n, c] into
    bands [b, 2774 * n, 96, c]. In this example, a block has 48000 samples, and `max_window_length` is 2774.

    The Nyquist frequency, ``nyquist``, is half the sample rate. Band k has the centre frequency
    ``nyquist / 2 ** num_octaves * 2 ** (k / num_bins_per_octave)``. The sound is cut into blocks of `block_length`
    samples. For each band, a window cuts a section out of the spectrum of a block. An inverse Fourier transform turns
    this section into frames (Velasco, Holighaus, Dörfler & Grill 2011). All bands have `max_window_length` frames per
    block.

    If `complete` is False, the results equal those of cqt-pytorch, which has no bands at the two ends of the spectrum.
    Decoding then loses the frequencies below ``nyquist / 2 ** num_octaves``. Frequencies above ``0.99 * nyquist`` are
    decoded less exactly, and the Nyquist frequency is nearly lost. If `complete` is True, there is one more band at
    each end of the spectrum.

    Fields:
        num_octaves: the number of octaves below the Nyquist frequency.
        num_bins_per_octave: the number of bands in each octave. There are ``num_octaves * num_bins_per_octave`` bands.
        sample_rate: in Hz.
        block_length: the length of a block in samples; None: sample_rate samples. The lower the bands, the longer the
            block must be. If the block is too short to separate the lowest bands, frequencies between these bands are
            lost.
        power_of_2_length: whether to round `max_window_length` up to a power of two. A length that is already a power
            of two is doubled.
        complete: whether to add a first band from 0 Hz to the lowest band, and a last band around the Nyquist
            frequency. With these bands, decoding is the inverse of encoding for every sound.

    Raises:
        InputError: a field is below 1, or `complete` is True and block_length is too short to separate the bands.
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
            # In blocks of `least` samples, the windows of the two lowest bands are 4 bins wide before rounding.
            least = 4 * 2**self.num_octaves * max(1, 2 / (4 ** (1 / self.num_bins_per_octave) - 1))
            raise InputError(
                f"block_length {self._block} is too short to separate {self.num_bins_per_octave} bins per octave over "
                f"{self.num_octaves} octaves: use at least {math.ceil(least)}"
            )

    @property
    def num_bins(self) -> int:
        """Returns the number of bands: ``num_octaves * num_bins_per_octave``, plus 2 if `complete` is True."""
        return len(self._bands[0])

    @property
    def max_window_length(self) -> int:
        """Returns the number of frames per block, which is the length of the longest window.

        If `complete` and `power_of_2_length` are False, the number is
        ``block_length / 2 * (2 ** (1 / B) - 2 ** (-1 / B))``, rounded, with ``B = num_bins_per_octave``.
        """
        longest = int(self._bands[1].max())
        return 1 << longest.bit_length() if self.power_of_2_length else longest

    def encode(self, x: Float[Array, "b time c"]) -> Complex[Array, "b frames {self.num_bins} c"]:
        """Encodes a sound to bands. ``n * block_length`` samples become ``n * max_window_length`` frames.

        Raises:
            InputError: time is not a multiple of block_length.
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

    def decode(self, z: Complex[Array, "b frames {self.num_bins} c"]) -> Float[Array, "b time c"]:
        """Decodes bands to sound, as the inverse of :meth:`encode`.

        Raises:
            InputError: the number of bands is wrong, or the number of frames is not a multiple of max_window_length.
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
    def _bands(self) -> tuple[Int[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
        """Returns (centres, widths) of the windows, in bins of a block's spectrum."""
        # As in cqt-pytorch, frequencies are rounded to bins in float32, and each band has the width of the next band.
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
    def _windows(self) -> Float[np.ndarray, "{self.max_window_length} {self.num_bins}"]:
        """Returns a matrix whose columns are the windows of the bands."""
        centres, lengths = self._bands
        width = self.max_window_length
        windows = np.zeros((width, len(lengths)))
        for k, length in enumerate(lengths.tolist()):
            start = math.floor(width / 2 - length / 2)
            windows[start : start + length, k] = hann(length) if length > 1 else 1.0
        if self.complete:  # the window of the first band is flat until the window of the second band rises
            distance = np.abs(np.arange(width) - width // 2)
            windows[:, 0] = np.sin(np.pi / 2 * np.clip((centres[1] - distance) / (lengths[1] // 2), 0, 1)) ** 2
        return windows

    @cached_property
    def _overlap(self) -> Float[np.ndarray, " {self._block}"]:
        """Returns the sum of the squares of all windows, for every bin of a block's spectrum."""
        overlap = np.zeros(self._block)
        np.add.at(overlap, self._indices(np), np.square(self._windows))
        return overlap

    def _indices(self, xp=jnp) -> Int[Array | np.ndarray, "{self.max_window_length} {self.num_bins}"]:
        """Returns the bins of a block's spectrum that each window covers. Under jit, the bins are computed in the
        compiled program, which would otherwise store them as a constant."""
        width = self.max_window_length
        return (xp.arange(width)[:, None] + xp.asarray(self._bands[0] - width // 2, "int32")) % self._block


def _scaled(z: Complex[Array, "*z"], scale: Float[np.ndarray, "*scale"]) -> Complex[Array, "*z"]:
    """Returns ``z * scale``, computed in real arithmetic. A complex ``scale`` would take twice the memory."""
    factor = jnp.asarray(scale, z.real.dtype)
    return jax.lax.complex(z.real * factor, z.imag * factor)
