"""Computes the short-time Fourier transform and its exact inverse. Both are differentiable, and use no loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Float64

from archijax.arithmetic import ceil_div
from archijax.errors import InputError


def hann(length: int) -> Float64[np.ndarray, " {length}"]:
    """Returns the periodic Hann window, ``0.5 - 0.5 cos(2 pi n / length)``."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@dataclass(frozen=True)
class STFT:
    """Transforms sound to the spectra of windowed frames, and spectra to sound.

    With ``stft = STFT(1024, 256)``, ``z = stft.encode(x)`` turns sound x [b, time, c] into complex spectra
    [b, time // 256 + 1, 513, c], and ``stft.decode(z, x.shape[1])`` returns x. The spectra are scaled by
    ``n_fft ** -0.5``.

    Fields:
        n_fft: the length of a frame in samples, odd or even.
        hop_length: the number of samples from one frame to the next frame.
        window_length: the length of the window, which lies in the middle of a frame; None: n_fft.
        centred: if True, frame i has its centre at sample ``i * hop_length``, as in PyTorch. The number of frames is
            ``time // hop_length + 1``, or one less if n_fft is odd and time is a multiple of hop_length. If False, the
            number of frames is ``time / hop_length``. In both cases, the sound is extended by reflection at its ends.
        window: a function from a length to the samples of a window, such as ``np.hamming``.

    Raises:
        InputError: the lengths do not fit each other.
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
        """Returns the number of bins from 0 Hz to half the sample rate, ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1

    def encode(self, x: Float[Array, "b time c"]) -> Complex[Array, "b frames {self.frequencies} c"]:
        """Transforms a sound to spectra. The field ``centred`` determines the number of frames.

        Raises:
            InputError: the sound is too short for reflection padding, or ``centred`` is False and time is not a
                multiple of hop_length.
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

    def decode(self, z: Complex[Array, "b frames {self.frequencies} c"], length: int) -> Float[Array, "b {length} c"]:
        """Transforms spectra to sound, the inverse of :meth:`encode`.

        With a Hann window, the inverse is exact if hop_length is at most half of the window's length. If no sound has
        these spectra, the result is the sound with the nearest spectra.

        Args:
            length: the number of samples to return, such as the length of the encoded sound.

        Raises:
            InputError: the frames are too few for `length` samples, or there are gaps between the windows.
        """
        window, left = self._window_length(), self._padding()[0]
        reach = (z.shape[1] - 1) * self.hop_length + (self.n_fft - window) // 2 + window - left
        if length > reach:
            raise InputError(f"{z.shape[1]} frames decode to at most {reach} samples, not {length}")
        return self.synthesise(z)[:, left : left + length]

    def shaped(
        self, x: Float[Array, "b time c"], factors: Float[Array, "b frames {self.frequencies} c"]
    ) -> Float[Array, "b time c"]:
        """Returns the sound whose spectra are nearest to ``encode(x) * factors``."""
        z = self.encode(x)
        return self.decode(z * factors.astype(z.dtype), x.shape[1])

    def analyse(self, x: Float[Array, "b time c"]) -> Complex[Array, "b frames {self.frequencies} c"]:
        """Transforms the frames that lie completely inside x to spectra, without padding.

        The number of frames is ``(time - n_fft) // hop_length + 1``. Frame i starts at sample ``i * hop_length``.

        Raises:
            InputError: the sound is shorter than a frame.
        """
        if x.shape[1] < self.n_fft:
            raise InputError(f"length {x.shape[1]} is too short for n_fft {self.n_fft}: use at least {self.n_fft}")
        count, hops = 1 + (x.shape[1] - self.n_fft) // self.hop_length, self._hops()
        x = jnp.pad(x, ((0, 0), (0, max(0, (count + hops - 1) * self.hop_length - x.shape[1])), (0, 0)))
        pieces = x[:, : (count + hops - 1) * self.hop_length].reshape(x.shape[0], -1, self.hop_length, x.shape[2])
        frames = jnp.concatenate([pieces[:, i : i + count] for i in range(hops)], axis=2)[:, :, : self.n_fft]
        window = jnp.asarray(self._padded_window(), x.dtype)
        return jnp.fft.rfft(frames * window[:, None], axis=2, norm="ortho")

    def synthesise(self, z: Complex[Array, "b frames {self.frequencies} c"]) -> Float[Array, "b time c"]:
        """Computes the sound whose windowed frames are nearest to the frames with the spectra z.

        The distance is the sum of squared differences (Griffin & Lim 1984, equation 6). The sound has
        ``(frames - 1) * hop_length + n_fft`` samples. Samples at both ends that are outside of all windows are zero.

        Raises:
            InputError: there are gaps between the windows.
        """
        window = self._padded_window()
        coverage = np.square(np.pad(window, (0, -self.n_fft % self.hop_length))).reshape(-1, self.hop_length).sum(0)
        if coverage.min() <= 1e-10 * coverage.max():
            raise InputError(
                f"hop_length {self.hop_length} leaves gaps between windows of {self._window_length()} samples: "
                "use at most half of the window"
            )
        frames = jnp.fft.irfft(z, self.n_fft, axis=2, norm="ortho")
        window = jnp.asarray(window, frames.dtype)
        sound = self._overlap_add(frames * window[:, None])
        weight = self._overlap_add(jnp.broadcast_to(jnp.square(window)[:, None], (1, *frames.shape[1:3], 1)))
        return sound / jnp.where(weight > jnp.finfo(frames.dtype).tiny, weight, 1)

    def _overlap_add(self, frames: Float[Array, "b frames {self.n_fft} c"]) -> Float[Array, "b time c"]:
        """Returns the sum of the frames, each of which starts hop_length samples after the previous frame."""
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

    def _padded_window(self) -> Float64[np.ndarray, " {self.n_fft}"]:
        length = self._window_length()
        left = (self.n_fft - length) // 2
        return np.pad(np.asarray(self.window(length), np.float64), (left, self.n_fft - length - left))


def to_polar(z: Complex[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Returns (magnitude, phase in radians). Where z is zero, the magnitude, the phase and their gradients are zero.

    A number counts as zero if the square of its magnitude underflows: in complex64, if the magnitude is below 1e-19.
    """
    zero = jnp.square(z.real) + jnp.square(z.imag) < jnp.finfo(z.dtype).tiny
    real, imag = jnp.where(zero, 1, z.real), jnp.where(zero, 0, z.imag)
    magnitude = jnp.where(zero, 0, jnp.sqrt(jnp.square(real) + jnp.square(imag)))
    return magnitude, jnp.where(zero, 0, jnp.arctan2(imag, real))


def from_polar(magnitude: Float[Array, "*shape"], phase: Float[Array, "*shape"]) -> Complex[Array, "*shape"]:
    """Returns the complex numbers with the given magnitudes and phases in radians."""
    return jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))
