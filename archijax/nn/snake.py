"""Contains the snake activation for periodic sound: x plus a periodic function of x (Ziyin et al. 2020)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.nn.arrays import full

# Three numbers with the sum pi. Their products with integers below 2^15 are exact in float32.
PI = (3.140625, 9.67502593994140625e-4, 1.509957990978376e-7)
# sin(r) / r as a polynomial of r^2, for |r| up to pi / 2, fitted at Chebyshev nodes. Its error is at most 4e-9.
SINE = (0.999999996, -0.16666658, 0.00833305062, -0.000198090464, 2.60516628e-06)


def square_of_sine(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Computes sin(x)^2 by products and sums. In float32 the error is at most 4e-7 for |x| up to 1e4.

    XLA does not vectorise the sine on CPU. With XLA's sine, a decoder of sound would spend half of its time on sines.
    """
    turns = jnp.round(x * (1 / jnp.pi))
    for term in PI:
        x = x - turns * term
    square, ratio = jnp.square(x), SINE[-1]
    for coefficient in SINE[-2::-1]:
        ratio = ratio * square + coefficient
    return square * jnp.square(ratio)


class Snake(nn.Module):
    """Returns x + sin(alpha x)^2 / beta, with a positive alpha and beta for each channel of x [..., c].

    ``y, variables = Snake().init_with_output(key, x)`` gives y in the shape of x. The parameters are the logarithms of
    alpha and beta.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
        alpha, beta = (self.param(name, nn.initializers.zeros, (x.shape[-1],)) for name in ("alpha", "beta"))
        wide = full(x)
        alpha, beta = (jnp.exp(full(log)).astype(wide.dtype) for log in (alpha, beta))
        return (wide + square_of_sine(alpha * wide) / (beta + 1e-9)).astype(x.dtype)
