"""Small operations on arrays that several layers use."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def full(x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x, converted to float32 if its type is narrower."""
    x = jnp.asarray(x)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def over_positions(v: Float[Array, "b c"], x: Float[Array, "b *positions c"]) -> Float[Array, "b ... c"]:
    """Adds axes of length 1 to v, so that it broadcasts over the positions of x."""
    return jnp.expand_dims(v, tuple(range(1, x.ndim - 1)))


def halves(x: Float[Array, "*shape c"]) -> tuple[Float[Array, "*shape c//2"], Float[Array, "*shape c//2"]]:
    """Splits the last axis into two halves.

    ``jnp.split`` is not used, because its gradient concatenates arrays, which XLA compiles again for each use on CPU.
    """
    half = x.shape[-1] // 2
    return lax.slice_in_dim(x, 0, half, axis=-1), lax.slice_in_dim(x, half, None, axis=-1)


def biased(y: Float[Array, "*shape c"], bias: Float[Array | np.ndarray, " c"]) -> Float[Array, "*shape c"]:
    """Returns y + bias, in the type of y. The sum is computed in at least float32, because the gradient of the bias is
    a long sum.
    """
    wide = full(y)
    return (wide + bias.astype(wide.dtype)).astype(y.dtype)
