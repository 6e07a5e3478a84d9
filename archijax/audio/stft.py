"""The short-time Fourier transform and its exact inverse, differentiable and without loops."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class STFT:
    """Hann-windowed frames of a sound and back, scaled by n_fft ** -0.5 so that noise keeps its variance.

    Fields:
        n_fft: samples of a frame, odd or even.
        hop_length: samples from one frame to the next.
        window_length: of the Hann window, in the middle of a frame; None: n_fft.
        centred: frame i is centred on sample i * hop_length, and there are time // hop_length + 1 of them, as in
            PyTorch; else there are time / hop_length, evenly placed. Both reflect the sound at its ends.
    """

    n_fft: int = 1024
    hop_length: int = 256
    window_length: int | None = None
    centred: bool = True

    def __post_init__(self):
        window = self.n_fft if self.window_length is None else self.window_length
        if not 0 < self.hop_length <= window <= self.n_fft:
            raise InputError(
                f"STFT with n_fft {self.n_fft}, window_length {window} and hop_length {self.hop_length}: "
                "0 < hop_length <= window_length <= n_fft is needed"
            )

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
                f"pad to {-(-x.shape[1] // self.hop_length) * self.hop_length}"
            )
        x = jnp.pad(x, ((0, 0), (left, right), (0, 0)), mode="reflect")
        count, hops = 1 + (x.shape[1] - self.n_fft) // self.hop_length, self._hops()
        x = jnp.pad(x, ((0, 0), (0, max(0, (count + hops - 1) * self.hop_length - x.shape[1])), (0, 0)))
        pieces = x[:, : (count + hops - 1) * self.hop_length].reshape(x.shape[0], -1, self.hop_length, x.shape[2])
        frames = jnp.concatenate([pieces[:, i : i + count] for i in range(hops)], axis=2)[:, :, : self.n_fft]
        return jnp.fft.rfft(frames * self._window(x.dtype)[:, None], axis=2, norm="ortho")

    def decode(self, z: jax.Array, length: int) -> jax.Array:
        """The sound [b, length, c] of spectra [b, frames, frequencies, c]: the inverse of :meth:`encode`.

        Of spectra that no sound has, the sound whose windowed frames are nearest (Griffin & Lim 1984, equation 6).
        """
        frames = jnp.fft.irfft(z, self.n_fft, axis=2, norm="ortho")
        window = self._window(frames.dtype)
        sound = self._overlap_add(frames * window[:, None])
        weight = self._overlap_add(jnp.broadcast_to(jnp.square(window)[:, None], (1, *frames.shape[1:3], 1)))
        left = self._padding()[0]
        if left + length > sound.shape[1]:
            raise InputError(
                f"{z.shape[1]} frames hold no {length} samples: at most {sound.shape[1] - left} can be decoded"
            )
        tiny = jnp.finfo(frames.dtype).tiny
        return (sound / jnp.where(weight > tiny, weight, 1))[:, left : left + length]

    def _overlap_add(self, frames: jax.Array) -> jax.Array:
        """[b, frames, n_fft, c] -> [b, time, c]."""
        b, count, _, c = frames.shape
        hops = self._hops()
        frames = jnp.pad(frames, ((0, 0), (0, 0), (0, hops * self.hop_length - self.n_fft), (0, 0)))
        pieces = frames.reshape(b, count, hops, self.hop_length, c)
        shifted = (jnp.pad(pieces[:, :, i], ((0, 0), (i, hops - 1 - i), (0, 0), (0, 0))) for i in range(hops))
        return sum(shifted).reshape(b, -1, c)

    def _hops(self) -> int:
        return -(-self.n_fft // self.hop_length)

    def _padding(self) -> tuple[int, int]:
        if self.centred:
            return self.n_fft // 2, self.n_fft // 2
        overlap = self.n_fft - self.hop_length
        return overlap // 2, overlap - overlap // 2

    def _window(self, dtype) -> jax.Array:
        length = self.n_fft if self.window_length is None else self.window_length
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        left = (self.n_fft - length) // 2
        return jnp.asarray(np.pad(hann, (left, self.n_fft - length - left)), dtype)


def to_polar(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Magnitude and phase; at zero the gradients of both are zero, where their formulas would be 0 / 0."""
    zero = (z.real == 0) & (z.imag == 0)
    real, imag = jnp.where(zero, 1, z.real), jnp.where(zero, 0, z.imag)
    magnitude = jnp.where(zero, 0, jnp.sqrt(jnp.square(real) + jnp.square(imag)))
    return magnitude, jnp.where(zero, 0, jnp.arctan2(imag, real))


def from_polar(magnitude: jax.Array, phase: jax.Array) -> jax.Array:
    """Complex numbers of a magnitude and a phase."""
    return jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))
