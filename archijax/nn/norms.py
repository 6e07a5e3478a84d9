"""Normalisation layers, with statistics in at least float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from archijax.errors import InputError
from archijax.nn.arrays import full, over_positions


class GroupNorm(nn.Module):
    """Group normalisation over positions and the channels of a group (Wu & He 2018), [b, *positions, c]."""

    groups: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        if c % self.groups:
            raise InputError(
                f"{c} channels do not divide into {self.groups} groups: make the channels a multiple of the groups"
            )
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        return _group_norm(x, scale, bias, self.groups, self.epsilon)


@partial(jax.jit, static_argnums=(3, 4))
def _group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, epsilon: float) -> jax.Array:
    size = x.shape[-1] // groups

    def average(y: jax.Array) -> jax.Array:
        """Means of each group, for each of its channels: [b, n, c] -> [b, 1, c]."""
        # Over positions first: with channels last that is the longest sum, and by far the faster one on CPU.
        means = y.mean(1).reshape(y.shape[0], groups, size).mean(-1)
        return jnp.repeat(means, size, axis=-1)[:, None]

    y = _standardized(x.reshape(x.shape[0], -1, x.shape[-1]), average, epsilon, scale)
    return (y + bias.astype(y.dtype)).reshape(x.shape).astype(x.dtype)


def normalize(x: jax.Array, epsilon: float) -> jax.Array:
    """Zero mean and unit variance over the last axis; in at least float32."""
    return _standardized(x, lambda y: y.mean(-1, keepdims=True), epsilon, jnp.ones((), x.dtype))


def _standardized(x: jax.Array, average: Callable, epsilon: float, scale: jax.Array) -> jax.Array:
    """scale * (x - mean) / sqrt(variance + epsilon) in at least float32, of what ``average`` takes means over."""
    wide = full(x)
    scale = scale.astype(wide.dtype)
    if x.dtype == wide.dtype:
        centred = x - average(x)
        # One factor, so that x is multiplied once.
        return centred * (lax.rsqrt(average(jnp.square(centred)) + epsilon) * scale)
    # Both moments from reading x once. That loses the variance beside a large mean, where float32 has eight digits, and
    # squares of more than 1e19; but of such values a narrow type has lost it already, and nets do not reach these.
    mean, square = average(wide), average(jnp.square(wide))
    variance = jnp.maximum(square - jnp.square(mean), 0)
    mean, variance = (checkpoint_name(moment, "moments") for moment in (mean, variance))
    return _scaled_by_moments(wide, mean, lax.rsqrt(variance + epsilon), average) * scale


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _scaled_by_moments(x: jax.Array, mean: jax.Array, gain: jax.Array, average: Callable) -> jax.Array:
    """(x - mean) * gain, where mean and gain = 1 / deviation follow from x; so does the derivative."""
    return (x - mean) * gain


@_scaled_by_moments.defjvp
def _scaled_by_moments_jvp(average: Callable, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    # By hand, since the backward pass of this reads x and its cotangent once for all its sums, and the one that follows
    # from the moments' definitions three times. What the moments' own tangents would add is in it.
    x, mean, gain = primals
    y, moved = (x - mean) * gain, tangents[0]
    return y, (moved - average(moved) - y * average(y * moved)) * gain


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with a learned scale and bias, [b, n, c]."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = normalize(x, self.epsilon)
        scale, bias = scale.astype(y.dtype), bias.astype(y.dtype)
        return (y * scale + bias).astype(x.dtype)


class GlobalResponseNorm(nn.Module):
    """ConvNeXt V2's global response normalisation (Woo et al. 2023, equation 2)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.zeros, (x.shape[-1],))
        beta = self.param("beta", nn.initializers.zeros, (x.shape[-1],))
        y = full(x)
        gamma, beta = gamma.astype(y.dtype), beta.astype(y.dtype)
        power = jnp.square(y).sum(tuple(range(1, x.ndim - 1)))
        # The norm of an all-zero channel is zero; its gradient is taken as zero, not as 0 / 0.
        norm = jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1.0)), 0.0)
        response = norm / (norm.mean(-1, keepdims=True) + 1e-6)
        y = gamma * (y * over_positions(response, x)) + beta + y
        return y.astype(x.dtype)
