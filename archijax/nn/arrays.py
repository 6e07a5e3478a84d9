"""Small operations on arrays that layers share: types, halves, vectors per item."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def full(x: jax.Array) -> jax.Array:
    """x in at least float32."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def over_positions(v: jax.Array, x: jax.Array) -> jax.Array:
    """A vector per item, [b, c], in the form in which it broadcasts over the positions of x [b, *positions, c]."""
    return jnp.expand_dims(v, tuple(range(1, x.ndim - 1)))


def halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two halves of the last axis. The gradient of a split joins arrays, which XLA compiles for CPU every time."""
    half = x.shape[-1] // 2
    return lax.slice_in_dim(x, 0, half, axis=-1), lax.slice_in_dim(x, half, None, axis=-1)


def biased(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [..., c] plus a bias [c], in y's type; added in at least float32, as the bias's gradient is a long sum."""
    wide = full(y)
    return (wide + bias.astype(wide.dtype)).astype(y.dtype)
