"""Applies A-weighting (IEC 61672-1) to sounds. The weights imitate the sensitivity of the ear to quiet tones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from archijax.nn.arrays import full


def a_weighting(frequencies: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns the factors, in float64, by which A-weighting multiplies amplitudes at the given frequencies in Hz.

    The factor at 1000 Hz is 1 (IEC 61672-1, annex E).
    """

    def response(f):
        square = np.square(np.asarray(f, np.float64))
        corners = (square + 20.6**2) * (square + 12194.0**2)
        return 12194.0**2 * square**2 / (corners * np.sqrt((square + 107.7**2) * (square + 737.9**2)))

    return response(frequencies) / response(np.float64(1000.0))


def a_weighted(x: Float[Array | np.ndarray, "b time c"], sample_rate: int) -> Float[Array, "b time c"]:
    """Applies A-weighting to sounds, in float32 or a wider type. The sample rate is in Hz.

    The Fourier transform of each whole sound is multiplied by the factors of :func:`a_weighting`.
    """
    x = full(jnp.asarray(x))
    factors = a_weighting(np.fft.rfftfreq(x.shape[1], 1 / sample_rate))[:, None]
    spectrum = jnp.fft.rfft(x, axis=1)
    return jnp.fft.irfft(spectrum * jnp.asarray(factors, spectrum.dtype), n=x.shape[1], axis=1)
