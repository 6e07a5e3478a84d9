"""Contains normalisation layers, which compute means and variances in at least float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from archijax.errors import InputError
from archijax.nn.arrays import full, over_positions


class GroupNorm(nn.Module):
    """Normalises groups of channels (Wu & He 2018). The mean and variance of a group are over all its channels and
    positions.

    ``y, variables = GroupNorm(8).init_with_output(key, x)`` gives y in the shape of x.

    Fields:
        groups: the number of groups, a divisor of the number of channels of x.
        epsilon: a number that is added to the variance.

    Raises:
        InputError: the number of groups does not divide the number of channels.
    """

    groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"]) -> Float[Array, "b *positions c"]:
        c = x.shape[-1]
        if c % self.groups:
            raise InputError(
                f"{c} channels do not divide into {self.groups} groups: make the channels a multiple of the groups"
            )
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        return _group_norm(x, scale, bias, self.groups, self.epsilon)


@partial(jax.jit, static_argnums=(3, 4))
def _group_norm(
    x: Float[Array, "b *positions c"], scale: Float[Array, " c"], bias: Float[Array, " c"], groups: int, epsilon: float
) -> Float[Array, "b *positions c"]:
    size = x.shape[-1] // groups

    def average(y: Float[Array, "b n c"]) -> Float[Array, "b 1 c"]:
        """Returns the mean of each group over channels and positions, repeated for each channel of the group."""
        # The mean over positions comes first. It has the most terms, and this order is much faster on CPU.
        means = y.mean(1).reshape(y.shape[0], groups, size).mean(-1)
        return jnp.repeat(means, size, axis=-1)[:, None]

    y = _standardized(x.reshape(x.shape[0], -1, x.shape[-1]), average, epsilon, scale)
    return (y + bias.astype(y.dtype)).reshape(x.shape).astype(x.dtype)


def normalize(x: Float[Array, "*shape"], epsilon: float) -> Float[Array, "*shape"]:
    """Normalises x to zero mean and unit variance over the last axis, in at least float32. The result has the shape of
    x.
    """
    return _standardized(x, lambda y: y.mean(-1, keepdims=True), epsilon, jnp.ones((), x.dtype))


def _standardized(
    x: Float[Array, "*shape"], average: Callable, epsilon: float, scale: Float[Array, " ..."]
) -> Float[Array, "*shape"]:
    """Returns scale * (x - mean) / sqrt(variance + epsilon), in at least float32. The function ``average`` computes the
    means.
    """
    wide = full(x)
    scale = scale.astype(wide.dtype)
    if x.dtype == wide.dtype:
        centred = x - average(x)
        # The two factors are multiplied first, so that x is multiplied only once.
        return centred * (lax.rsqrt(average(jnp.square(centred)) + epsilon) * scale)
    # Both moments are computed in one pass over x. The variance is then inexact if the mean is much larger than the
    # deviation, but the narrow type of x is not exact there either. Squares of values above 1e19 overflow, but nets do
    # not reach such values.
    mean, square = average(wide), average(jnp.square(wide))
    variance = jnp.maximum(square - jnp.square(mean), 0)
    mean, variance = (checkpoint_name(moment, "moments") for moment in (mean, variance))
    return _scaled_by_moments(wide, mean, lax.rsqrt(variance + epsilon), average) * scale


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _scaled_by_moments(
    x: Float[Array, "*shape"], mean: Float[Array, " ..."], gain: Float[Array, " ..."], average: Callable
) -> Float[Array, "*shape"]:
    """Returns (x - mean) * gain, where gain is 1 / (standard deviation). The derivative treats mean and gain as
    functions of x.
    """
    return (x - mean) * gain


@_scaled_by_moments.defjvp
def _scaled_by_moments_jvp(average: Callable, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    # The backward pass of this formula reads x and its cotangent once for all sums. The automatic derivative would read
    # them three times. The formula includes the tangents of the moments.
    x, mean, gain = primals
    y, tangent = (x - mean) * gain, tangents[0]
    return y, (tangent - average(tangent) - y * average(y * tangent)) * gain


class LayerNorm(nn.Module):
    """Normalises x [..., c] over the last axis, then applies a learned scale and bias.

    ``y, variables = LayerNorm().init_with_output(key, x)`` gives y in the shape of x. The field epsilon is added to the
    variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = normalize(x, self.epsilon)
        scale, bias = scale.astype(y.dtype), bias.astype(y.dtype)
        return (y * scale + bias).astype(x.dtype)


class GlobalResponseNorm(nn.Module):
    """Applies the global response normalisation of ConvNeXt V2 to x (Woo et al. 2023, equation 2).

    ``y, variables = GlobalResponseNorm().init_with_output(key, x)`` gives y in the shape of x.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"]) -> Float[Array, "b *positions c"]:
        gamma = self.param("gamma", nn.initializers.zeros, (x.shape[-1],))
        beta = self.param("beta", nn.initializers.zeros, (x.shape[-1],))
        y = full(x)
        gamma, beta = gamma.astype(y.dtype), beta.astype(y.dtype)
        power = jnp.square(y).sum(tuple(range(1, x.ndim - 1)))
        # The norm of a channel of zeros is zero. Its gradient is set to zero, because it would be 0 / 0.
        norm = jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1.0)), 0.0)
        response = norm / (norm.mean(-1, keepdims=True) + 1e-6)
        y = gamma * (y * over_positions(response, x)) + beta + y
        return y.astype(x.dtype)
