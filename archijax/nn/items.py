"""Items of a U-Net, ``(x, context) -> x``, and merges of a skip connection, ``(skip, x, context) -> x``."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.nn.arrays import full, halves, over_positions
from archijax.nn.linear import Conv, Linear
from archijax.nn.norms import GlobalResponseNorm, GroupNorm, normalize


class ConvBlock(nn.Module):
    """GroupNorm, SiLU, convolution."""

    features: int
    kernel_size: int = 3
    groups: int = 8
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.silu(GroupNorm(self.groups, name="norm")(x))
        return Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)


class Resnet(nn.Module):
    """Two pre-activated convolutions around a skip; a kernel-1 convolution on the skip where channels change."""

    groups: int = 8
    kernel_size: int = 3
    channels: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context=None) -> jax.Array:
        channels = self.channels or x.shape[-1]
        block = partial(ConvBlock, channels, self.kernel_size, self.groups, self.dtype)
        y = block(name="block_1")(block(name="block_0")(x))
        if channels != x.shape[-1]:
            x = Conv(channels, dtype=self.dtype, name="skip")(x)
        return x.astype(y.dtype) + y


class ConvNeXtV2(nn.Module):
    """ConvNeXt V2 block (Woo et al. 2023): depthwise kernel 7, norm, pointwise expansion by 4, GELU, GRN."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context=None) -> jax.Array:
        c = x.shape[-1]
        y = Conv(c, 7, groups=c, dtype=self.dtype, name="depthwise")(x)
        y = GroupNorm(1, name="norm")(y)
        y = nn.gelu(Conv(4 * c, dtype=self.dtype, name="expand")(y), approximate=False)
        y = GlobalResponseNorm(name="response_norm")(y)
        return x.astype(y.dtype) + Conv(c, dtype=self.dtype, name="contract")(y)


class Modulation(nn.Module):
    """Layer norm whose scale and shift come from the features: norm(x) * (1 + scale) + shift."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context) -> jax.Array:
        if context.features is None:
            raise InputError("modulation needs features [batch, features] and found none: pass time= or features=")
        scale_shift = Linear(2 * x.shape[-1], dtype=self.dtype, name="to_scale_shift")
        scale, shift = halves(full(scale_shift(nn.silu(context.features))))
        y = normalize(x, 1e-6) * over_positions(1 + scale, x) + over_positions(shift, x)
        return y.astype(self.dtype)


class InjectChannels(nn.Module):
    """Mixes the context channels of this depth in: x + conv1([x, channels]).

    Fields: channels, how many the context must bring ([b, *positions of x, channels] at this depth).
    """

    channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context) -> jax.Array:
        depth, given = context.depth, context.channels
        expected = (*x.shape[:-1], self.channels)
        if depth >= len(given) or given[depth] is None:
            raise InputError(f"context channels of shape {expected} are missing at depth {depth}")
        if given[depth].shape != expected:
            raise InputError(f"context channels at depth {depth} have shape {given[depth].shape}: {expected} is needed")
        joined = jnp.concatenate([x.astype(self.dtype), given[depth].astype(self.dtype)], axis=-1)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(joined) + x.astype(self.dtype)


class SkipAdd(nn.Module):
    """skip + x."""

    def __call__(self, skip: jax.Array, x: jax.Array, context) -> jax.Array:
        return skip + x


class SkipConcat(nn.Module):
    """A kernel-1 convolution of [skip * scale, x]."""

    scale: float = 2**-0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, skip: jax.Array, x: jax.Array, context) -> jax.Array:
        joined = jnp.concatenate([skip * self.scale, x], axis=-1)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(joined)


class SkipModulate(nn.Module):
    """skip + scale * x, the scale per channel from the features."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, skip: jax.Array, x: jax.Array, context) -> jax.Array:
        if context.features is None:
            raise InputError("a modulated skip needs features [batch, features] and found none: pass time=")
        scale = Linear(x.shape[-1], dtype=self.dtype, name="to_scale")(nn.silu(context.features))
        # In at least float32, as the scale's gradient is a long sum.
        return (full(skip) + over_positions(full(scale), x) * full(x)).astype(x.dtype)
