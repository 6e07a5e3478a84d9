"""Rotary positions: pairs of features turned by angles that grow with the position (Su et al. 2021, RoFormer)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from archijax.nn.arrays import full, halves

BASE = 10_000.0  # of the frequencies, which fall from 1 to its inverse


def rotary_frequencies(features: int) -> np.ndarray:
    """What a position is multiplied by to give the angle of each of features / 2 pairs, float32."""
    return np.float32(1) / np.float32(BASE) ** (np.arange(0, features, 2, dtype=np.float32) / np.float32(features))


def rotary_angles(length: int, features: int) -> jax.Array:
    """Angles [length, features / 2] of the positions 0 ... length - 1, for features that are turned in pairs."""
    # Products in float32, which is what pretrained nets were trained with.
    return jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.asarray(rotary_frequencies(features))


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """x [b, n, h, d] with its first features turned by angles [n, k], k at most d / 2; the rest stays.

    Feature i and feature i + k make a pair. Computed in at least float32.
    """
    count = 2 * angles.shape[-1]
    wide = full(x)
    cos, sin = (f(angles)[:, None].astype(wide.dtype) for f in (jnp.cos, jnp.sin))
    first, second = halves(wide[..., :count])
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin, wide[..., count:]], axis=-1)
    return turned.astype(x.dtype)
