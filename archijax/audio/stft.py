"""The short-time Fourier transform and its exact inverse, differentiable and without loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import InputError


def hann(length: int) -> np.ndarray:
    """The periodic Hann window, 0.5 - 0.5 cos(2 pi n / length)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@dataclass(frozen=True)
class STFT:
    """Windowed frames of a sound and back, scaled by n_fft ** -0.5 so that noise keeps its variance.

    Fields:
        n_fft: samples of a frame, odd or even.
        hop_length: samples from one frame to the next.
        window_length: of the window, in the middle of a frame; None: n_fft.
        centred: frame i is centred on sample i * hop_length, and there are time // hop_length + 1 of them (for odd
            n_fft one less where hop_length divides time), as in PyTorch; else there are time / hop_length, evenly
            placed. Both reflect the sound at its ends.
        window: maps a length to that many samples, such as ``np.hamming``.
    """

    n_fft: int = 1024
    hop_length: int = 256
    window_length: int | None = None
    centred: bool = True
    window: Callable[[int], np.ndarray] = hann

    def __post_init__(self):
        window = self._window_length()
        if not 0 < self.hop_length <= window <= self.n_fft:
            raise InputError(
                f"STFT with n_fft {self.n_fft}, window_length {window} and hop_length {self.hop_length}: "
                "0 < hop_length <= window_length <= n_fft is needed"
            )
        if (shape := np.shape(self.window(window))) != (window,):
            raise InputError(f"the window of {window} samples has the shape {shape}: it must be ({window},)")

    @property
    def frequencies(self) -> int:
        """Bins from 0 to half the sample rate."""
        return self.n_fft // 2 + 1

    def encode(self, x: jax.Array) -> jax.Array:
        """Complex spectra [b, frames, frequencies, c] of a sound [b, time, c].

        Raises:
            InputError: a sound too short to be reflected, or, if not centred, a time that hop_length does not divide.
        """
        left, right = self._padding()
        if x.shape[1] <= max(left, right):
            raise InputError(
                f"length {x.shape[1]} is too short for n_fft {self.n_fft}: use more than {max(left, right)}"
            )
        if not self.centred and x.shape[1] % self.hop_length:
            raise InputError(
                f"length {x.shape[1]} is not a multiple of {self.hop_length} (hop_length): "
                f"pad to {ceil_div(x.shape[1], self.hop_length) * self.hop_length}"
            )
        return self.analyse(jnp.pad(x, ((0, 0), (left, right), (0, 0)), mode="reflect"))

    def decode(self, z: jax.Array, length: int) -> jax.Array:
        """The sound [b, length, c] of spectra [b, frames, frequencies, c]: the inverse of :meth:`encode`.

        Exact where every sample lies well inside some frame's window: hop_length at most half of a Hann window. Of
        spectra that no sound has, the sound whose windowed frames are nearest.

        Raises:
            InputError: frames that do not reach as far as length, or see some samples not at all.
        """
        window, left = self._window_length(), self._padding()[0]
        reach = (z.shape[1] - 1) * self.hop_length + (self.n_fft - window) // 2 + window - left
        if length > reach:
            raise InputError(f"{z.shape[1]} frames hold no {length} samples: at most {reach} can be decoded")
        return self.synthesise(z)[:, left : left + length]

    def analyse(self, x: jax.Array) -> jax.Array:
        """Complex spectra [b, frames, frequencies, c] of the frames that lie inside x [b, time, c], without padding.

        There are (time - n_fft) // hop_length + 1 of them; frame i starts at sample i * hop_length.

        Raises:
            InputError: a sound shorter than a frame.
        """
        if x.shape[1] < self.n_fft:
            raise InputError(f"length {x.shape[1]} is too short for n_fft {self.n_fft}: use at least {self.n_fft}")
        count, hops = 1 + (x.shape[1] - self.n_fft) // self.hop_length, self._hops()
        x = jnp.pad(x, ((0, 0), (0, max(0, (count + hops - 1) * self.hop_length - x.shape[1])), (0, 0)))
        pieces = x[:, : (count + hops - 1) * self.hop_length].reshape(x.shape[0], -1, self.hop_length, x.shape[2])
        frames = jnp.concatenate([pieces[:, i : i + count] for i in range(hops)], axis=2)[:, :, : self.n_fft]
        window = jnp.asarray(self._padded_window(), x.dtype)
        return jnp.fft.rfft(frames * window[:, None], axis=2, norm="ortho")

    def synthesise(self, z: jax.Array) -> jax.Array:
        """The sound [b, (frames - 1) * hop_length + n_fft, c] that :meth:`analyse` maps nearest to z.

        Nearest in the sum of squares (Griffin & Lim 1984, equation 6); samples under no window, at the ends, are zero.

        Raises:
            InputError: a window and hop that leave gaps between frames.
        """
        window = self._padded_window()
        seen = np.square(np.pad(window, (0, -self.n_fft % self.hop_length))).reshape(-1, self.hop_length).sum(0)
        if seen.min() <= 1e-10 * seen.max():
            raise InputError(
                f"hop_length {self.hop_length} leaves samples that no frame sees through a window of "
                f"{self._window_length()}: use at most half of the window"
            )
        frames = jnp.fft.irfft(z, self.n_fft, axis=2, norm="ortho")
        window = jnp.asarray(window, frames.dtype)
        sound = self._overlap_add(frames * window[:, None])
        weight = self._overlap_add(jnp.broadcast_to(jnp.square(window)[:, None], (1, *frames.shape[1:3], 1)))
        return sound / jnp.where(weight > jnp.finfo(frames.dtype).tiny, weight, 1)

    def _overlap_add(self, frames: jax.Array) -> jax.Array:
        """[b, frames, n_fft, c] -> [b, (frames - 1) * hop_length + n_fft, c]."""
        b, count, _, c = frames.shape
        hops = self._hops()
        frames = jnp.pad(frames, ((0, 0), (0, 0), (0, hops * self.hop_length - self.n_fft), (0, 0)))
        pieces = frames.reshape(b, count, hops, self.hop_length, c)
        shifted = (jnp.pad(pieces[:, :, i], ((0, 0), (i, hops - 1 - i), (0, 0), (0, 0))) for i in range(hops))
        return sum(shifted).reshape(b, -1, c)[:, : (count - 1) * self.hop_length + self.n_fft]

    def _hops(self) -> int:
        return ceil_div(self.n_fft, self.hop_length)

    def _padding(self) -> tuple[int, int]:
        if self.centred:
            return self.n_fft // 2, self.n_fft // 2
        overlap = self.n_fft - self.hop_length
        return overlap // 2, overlap - overlap // 2

    def _window_length(self) -> int:
        return self.n_fft if self.window_length is None else self.window_length

    def _padded_window(self) -> np.ndarray:
        length = self._window_length()
        left = (self.n_fft - length) // 2
        return np.pad(np.asarray(self.window(length), np.float64), (left, self.n_fft - length - left))


def to_polar(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Magnitude and phase; at zero the gradients of both are zero, where their formulas would be 0 / 0.

    Numbers whose square is too small for their type (below 1e-19 in single precision) count as zero.
    """
    zero = jnp.square(z.real) + jnp.square(z.imag) < jnp.finfo(z.dtype).tiny
    real, imag = jnp.where(zero, 1, z.real), jnp.where(zero, 0, z.imag)
    magnitude = jnp.where(zero, 0, jnp.sqrt(jnp.square(real) + jnp.square(imag)))
    return magnitude, jnp.where(zero, 0, jnp.arctan2(imag, real))


def from_polar(magnitude: jax.Array, phase: jax.Array) -> jax.Array:
    """Complex numbers of a magnitude and a phase."""
    return jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))
