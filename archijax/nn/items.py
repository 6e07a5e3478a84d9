"""Contains items of a U-Net, ``item(x, context) -> x``, and merge modules, ``merge(skip, x, context) -> x``.

A merge module joins x with the skip. The skip is the array at the same depth before downsampling. The context is a
:class:`archijax.nn.Context`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from archijax.errors import InputError
from archijax.nn.arrays import full, halves, over_positions
from archijax.nn.linear import Conv, Linear
from archijax.nn.norms import GlobalResponseNorm, GroupNorm, normalize


class ConvBlock(nn.Module):
    """Applies GroupNorm, SiLU and a convolution to x, in this order.

    ``y, variables = ConvBlock(16).init_with_output(key, x)`` gives y [b, *positions, 16].

    Fields:
        features: the number of channels of the result.
        kernel_size: the kernel size of the convolution, an odd number.
        groups: the number of groups of the group norm, a divisor of the number of channels of x.
        dtype: the type of the computation and of the result.
    """

    features: int
    kernel_size: int = 3
    groups: int = 8
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"]) -> Float[Array, "b *positions {self.features}"]:
        x = nn.silu(GroupNorm(self.groups, name="norm")(x))
        return Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)


class Resnet(nn.Module):
    """Applies a residual block to x: two convolutions, each after a group norm and SiLU.

    ``y, variables = Resnet().init_with_output(key, x)`` gives y [b, *positions, channels]. The context is not used.

    Fields:
        groups: the number of groups of each group norm, a divisor of the number of channels of x and of the result.
        kernel_size: the kernel size of both convolutions, an odd number.
        channels: the number of channels of the result, or None for as many channels as x. If x has another number of
            channels, a convolution with kernel size 1 adapts x before the residual sum.
        dtype: the type of the computation and of the result.
    """

    groups: int = 8
    kernel_size: int = 3
    channels: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any = None) -> Float[Array, "b *positions out"]:
        channels = self.channels or x.shape[-1]
        block = partial(ConvBlock, channels, self.kernel_size, self.groups, self.dtype)
        y = block(name="block_1")(block(name="block_0")(x))
        if channels != x.shape[-1]:
            x = Conv(channels, dtype=self.dtype, name="skip")(x)
        return x.astype(y.dtype) + y


class ConvNeXtV2(nn.Module):
    """Applies the residual block of ConvNeXt V2 to x (Woo et al. 2023).

    ``y, variables = ConvNeXtV2().init_with_output(key, x)`` gives y in the shape of x. The context is not used. The
    layers are a depthwise convolution with kernel size 7, a norm, an expansion to 4 times the number of channels, GELU,
    global response normalisation and a contraction. The result of the layers is added to x.

    Fields:
        dtype: the type of the computation and of the result.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any = None) -> Float[Array, "b *positions c"]:
        c = x.shape[-1]
        y = Conv(c, 7, groups=c, dtype=self.dtype, name="depthwise")(x)
        y = GroupNorm(1, name="norm")(y)
        y = nn.gelu(Conv(4 * c, dtype=self.dtype, name="expand")(y), approximate=False)
        y = GlobalResponseNorm(name="response_norm")(y)
        return x.astype(y.dtype) + Conv(c, dtype=self.dtype, name="contract")(y)


def _active_features(context: Any) -> Float[Array, "b f"]:
    """Returns silu(context.features). Raises InputError if the context has no features."""
    if context.features is None:
        raise InputError("modulation needs features [batch, features], but there are none: pass time= or features=")
    return nn.silu(context.features)


class AdaptiveConvNeXt(nn.Module):
    """Applies a ConvNeXt block (Liu et al. 2022) with an adaptive norm to x, as in diffusion transformers (Peebles &
    Xie 2023).

    ``y, variables = AdaptiveConvNeXt().init_with_output(key, x, Context(features=features))`` gives y in the shape of
    x. The layers are a depthwise convolution with kernel size 7, a norm over channels, an expansion, GELU and a
    contraction. The result of the layers is multiplied by a gate and added to x. The gate of each channel, and the
    scale and shift of the norm, are computed from ``context.features`` [b, f].

    Fields:
        expansion: the factor by which the expansion multiplies the number of channels of x.
        gate: a number that is added to the computed gates, which are small before training.
        dtype: the type of the computation. The result has the type of x.

    Raises:
        InputError: the context has no features.
    """

    expansion: int = 3
    gate: float = 0.3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any) -> Float[Array, "b *positions c"]:
        c = x.shape[-1]
        modulations = Linear(3 * c, dtype=self.dtype, name="to_modulations")(_active_features(context))
        scale, shift, gate = (over_positions(full(modulations[:, i * c : (i + 1) * c]), x) for i in range(3))
        y = Conv(c, 7, groups=c, dtype=self.dtype, name="depthwise")(x)
        y = (normalize(y, 1e-6) * (1 + scale) + shift).astype(self.dtype)
        y = nn.gelu(Linear(self.expansion * c, self.dtype, name="expand")(y))
        y = Linear(c, self.dtype, name="contract")(y)
        return (full(x) + (self.gate + gate) * y).astype(x.dtype)


class Modulation(nn.Module):
    """Returns norm(x) * (1 + scale) + shift. Scale and shift are computed from ``context.features`` [b, f].

    ``y, variables = Modulation().init_with_output(key, x, Context(features=features))`` gives y in the shape of x. The
    norm is over the channels of x.

    Fields:
        dtype: the type of the computation and of the result.

    Raises:
        InputError: the context has no features.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any) -> Float[Array, "b *positions c"]:
        scale_shift = Linear(2 * x.shape[-1], dtype=self.dtype, name="to_scale_shift")
        scale, shift = halves(full(scale_shift(_active_features(context))))
        y = normalize(x, 1e-6) * over_positions(1 + scale, x) + over_positions(shift, x)
        return y.astype(self.dtype)


class InjectChannels(nn.Module):
    """Returns x + conv([x, injected]), where ``injected`` is ``context.channels[context.depth]``. The kernel size is 1.

    ``y, variables = InjectChannels(4).init_with_output(key, x, Context(channels=(injected,)))`` with injected [b,
    *positions of x, 4] gives y in the shape of x.

    Fields:
        channels: the number of channels of ``injected``.
        dtype: the type of the computation and of the result.

    Raises:
        InputError: ``injected`` is missing, or its shape is not [b, *positions of x, channels].
    """

    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any) -> Float[Array, "b *positions c"]:
        depth, expected = context.depth, (*x.shape[:-1], self.channels)
        channels = context.channels[depth] if depth < len(context.channels) else None
        if channels is None:
            raise InputError(f"context channels of shape {expected} are missing at depth {depth}")
        if channels.shape != expected:
            raise InputError(f"context channels at depth {depth} have shape {channels.shape}: {expected} is needed")
        joined = jnp.concatenate([x.astype(self.dtype), channels.astype(self.dtype)], axis=-1)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(joined) + x.astype(self.dtype)


class SkipAdd(nn.Module):
    """Returns skip + x. ``y = SkipAdd().apply({}, skip, x, None)`` needs no variables. The context is not used."""

    def __call__(
        self, skip: Float[Array, "b *positions c"], x: Float[Array, "b *positions c"], context: Any
    ) -> Float[Array, "b *positions c"]:
        return skip + x


class SkipConcat(nn.Module):
    """Concatenates the channels of ``skip * scale`` and x, and applies a convolution with kernel size 1.

    ``y, variables = SkipConcat().init_with_output(key, skip, x, None)`` gives y in the shape of x. The context is not
    used.

    Fields:
        scale: the factor that multiplies the skip.
        dtype: the type of the computation and of the result.
    """

    scale: float = 2**-0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, skip: Float[Array, "b *positions c"], x: Float[Array, "b *positions c"], context: Any
    ) -> Float[Array, "b *positions c"]:
        joined = jnp.concatenate([skip * self.scale, x], axis=-1)
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(joined)


class SkipModulate(nn.Module):
    """Returns skip + scale * x. The scale of each channel is computed from ``context.features`` [b, f].

    ``y, variables = SkipModulate().init_with_output(key, skip, x, Context(features=features))`` gives y in the shape of
    x.

    Fields:
        dtype: the type in which the scale is computed. The result has the type of x.

    Raises:
        InputError: the context has no features.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, skip: Float[Array, "b *positions c"], x: Float[Array, "b *positions c"], context: Any
    ) -> Float[Array, "b *positions c"]:
        if context.features is None:
            raise InputError("a modulated skip needs features [batch, features], but there are none: pass time=")
        scale = Linear(x.shape[-1], dtype=self.dtype, name="to_scale")(nn.silu(context.features))
        # The computation is in at least float32, because the gradient of the scale is a long sum.
        return (full(skip) + over_positions(full(scale), x) * full(x)).astype(x.dtype)
