"""A-weighting: how loud a tone of each frequency seems to the ear at low levels (IEC 61672-1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from archijax.nn.arrays import full


def a_weighting(frequencies: np.ndarray) -> np.ndarray:
    """The factor of amplitudes at frequencies in Hz, 1 at 1000 Hz (IEC 61672-1, annex E), float64 in their shape."""

    def response(f: np.ndarray) -> np.ndarray:
        square = np.square(np.asarray(f, np.float64))
        corners = (square + 20.6**2) * (square + 12194.0**2)
        return 12194.0**2 * square**2 / (corners * np.sqrt((square + 107.7**2) * (square + 737.9**2)))

    return response(frequencies) / response(np.float64(1000.0))


def a_weighted(x: jax.Array, sample_rate: int) -> jax.Array:
    """Sounds [b, time, c] under A-weighting, float32 or wider; by the Fourier transform over their whole length."""
    x = full(x)
    factors = a_weighting(np.fft.rfftfreq(x.shape[1], 1 / sample_rate))[:, None]
    spectrum = jnp.fft.rfft(x, axis=1)
    return jnp.fft.irfft(spectrum * jnp.asarray(factors, spectrum.dtype), n=x.shape[1], axis=1)
