"""A-weighting: how loud a tone of each frequency seems to the ear at low levels (IEC 61672-1)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from archijax.nn.arrays import full


def a_weighting(frequencies: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Returns the factor by which A-weighting multiplies the amplitude of each frequency in Hz; 1 at 1000 Hz. The
    factors are float64 (IEC 61672-1, annex E)."""

    def response(f):
        square = np.square(np.asarray(f, np.float64))
        corners = (square + 20.6**2) * (square + 12194.0**2)
        return 12194.0**2 * square**2 / (corners * np.sqrt((square + 107.7**2) * (square + 737.9**2)))

    return response(frequencies) / response(np.float64(1000.0))


def a_weighted(x: Float[Array | np.ndarray, "b time c"], sample_rate: int) -> Float[Array, "b time c"]:
    """Applies A-weighting to sounds, in float32 or wider. The sample rate is in Hz.

    The weights multiply the Fourier transform of each whole sound.
    """
    x = full(jnp.asarray(x))
    factors = a_weighting(np.fft.rfftfreq(x.shape[1], 1 / sample_rate))[:, None]
    spectrum = jnp.fft.rfft(x, axis=1)
    return jnp.fft.irfft(spectrum * jnp.asarray(factors, spectrum.dtype), n=x.shape[1], axis=1)
