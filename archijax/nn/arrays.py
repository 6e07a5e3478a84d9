"""Contains small array operations that several layers use."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def full(x: Float[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Converts float16 and bfloat16 to float32. Wider floating-point types and the shape of x do not change."""
    x = jnp.asarray(x)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def over_positions(v: Float[Array, "b c"], x: Float[Array, "b *positions c"]) -> Float[Array, "b ... c"]:
    """Reshapes v [b, c] to [b, 1, ..., 1, c] with as many axes as x. The result broadcasts over the positions of x."""
    return jnp.expand_dims(v, tuple(range(1, x.ndim - 1)))


def halves(x: Float[Array, "*shape c"]) -> tuple[Float[Array, "*shape c//2"], Float[Array, "*shape c//2"]]:
    """Splits the last axis of x into two halves, each of the shape [..., c // 2]. The length c of this axis must be
    even.

    The function does not call ``jnp.split``, because XLA on CPU compiles the gradient of each call separately.
    """
    half = x.shape[-1] // 2
    return lax.slice_in_dim(x, 0, half, axis=-1), lax.slice_in_dim(x, half, None, axis=-1)


def biased(y: Float[Array, "*shape c"], bias: Float[Array | np.ndarray, " c"]) -> Float[Array, "*shape c"]:
    """Returns y + bias in the shape and type of y. The addition is computed in at least float32, because the gradient
    of the bias is a long sum.
    """
    wide = full(y)
    return (wide + bias.astype(wide.dtype)).astype(y.dtype)
