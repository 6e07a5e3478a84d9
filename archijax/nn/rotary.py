"""Computes rotary positions: pairs of features are rotated by angles proportional to the position (Su et al. 2021,
RoFormer).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from archijax.nn.arrays import full, halves

BASE = 10_000.0  # the frequencies fall from 1 to 1 / BASE


def rotary_frequencies(features: int) -> Float32[np.ndarray, " {features}//2"]:
    """Returns one frequency per pair of features [features / 2]. The number of features must be even. The angle of a
    pair is its frequency times the position.
    """
    return np.float32(1) / np.float32(BASE) ** (np.arange(0, features, 2, dtype=np.float32) / np.float32(features))


def rotary_angles(length: int, features: int) -> Float32[Array, "{length} {features}//2"]:
    """Returns the angles [length, features / 2] of all pairs of features at the positions 0 ... length - 1."""
    # The products are in float32, as in the training of the pretrained nets.
    return jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.asarray(rotary_frequencies(features))


def rotate(x: Float[Array, "b n h d"], angles: Float[Array, "n k"]) -> Float[Array, "b n h d"]:
    """Rotates the first 2 k features of each head by the angles [n, k], and leaves the other features unchanged.

    Features i and i + k of a head are a pair, so 2 k is at most d. ``rotary_angles(n, 2 * k)`` computes the angles. The
    computation is in at least float32.
    """
    count = 2 * angles.shape[-1]
    wide = full(x)
    cos, sin = (f(angles)[:, None].astype(wide.dtype) for f in (jnp.cos, jnp.sin))
    first, second = halves(wide[..., :count])
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin, wide[..., count:]], axis=-1)
    return rotated.astype(x.dtype)
