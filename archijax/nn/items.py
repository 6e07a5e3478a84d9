"""Items of a U-Net, ``item(x, context) -> x``, and modules that merge a skip with x, ``merge(skip, x, context) -> x``.

The context is a :class:`archijax.nn.Context`.
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
    """Applies GroupNorm, SiLU and a convolution to x, in this order."""

    features: int
    kernel_size: int = 3
    groups: int = 8
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"]) -> Float[Array, "b *positions {self.features}"]:
        x = nn.silu(GroupNorm(self.groups, name="norm")(x))
        return Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)


class Resnet(nn.Module):
    """A residual block with two convolutions, each after a group norm and SiLU, called as ``item(x, context)``.

    Fields:
        groups: the number of groups of each group norm, a divisor of the number of channels of x and of the result.
        kernel_size: the size of the convolutions' kernels, an odd number.
        channels: the number of channels of the result; None: as many as x has. If x has another number of channels, a
            convolution with kernel size 1 adapts x before the sum.
        dtype: the type of the computation.
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
    """The block of ConvNeXt V2 (Woo et al. 2023), called as ``item(x, context)``.

    The block adds to x the result of a depthwise convolution with kernel size 7, a norm, an expansion to 4 times the
    number of channels, GELU, global response normalisation and a contraction.

    Fields:
        dtype: the type of the computation.
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
    """Returns the features of the context after SiLU. Raises InputError if there are none."""
    if context.features is None:
        raise InputError("modulation needs features [batch, features], but there are none: pass time= or features=")
    return nn.silu(context.features)


class AdaptiveConvNeXt(nn.Module):
    """A ConvNeXt block (Liu et al. 2022) whose norm is adaptive, as in diffusion transformers (Peebles & Xie 2023);
    called as ``item(x, context)``.

    The block adds to x the result of a depthwise convolution with kernel size 7, a norm over channels, an expansion,
    GELU and a contraction. The scale and shift of the norm, and a gate for each channel of the result, are computed
    from ``context.features`` [b, f].

    Fields:
        expansion: the width between the two dense layers, as a multiple of the number of channels.
        gate: this number is added to the computed gates, which are small before training.
        dtype: the type of the computation.

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
    """Modulates x: norm(x) * (1 + scale) + shift, with scale and shift computed from ``context.features`` [b, f].

    ``Modulation()`` is an item of a :class:`Block`, called as ``item(x, Context(features=features))``.

    Fields:
        dtype: the type of the computation.

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
    """Injects channels of the context into x: x + conv([x, context.channels[context.depth]]), with kernel size 1.

    At depth 0, the context is ``Context(channels=(array,))`` with an array [b, *positions of x, channels].

    Fields:
        channels: the number of channels that the context has at this depth.
        dtype: the type of the computation.

    Raises:
        InputError: the context has no channels at this depth, or their shape is not [b, *positions of x, channels].
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
    """Merges a skip with x by the sum skip + x; called as ``merge(skip, x, context)``."""

    def __call__(
        self, skip: Float[Array, "b *positions c"], x: Float[Array, "b *positions c"], context: Any
    ) -> Float[Array, "b *positions c"]:
        return skip + x


class SkipConcat(nn.Module):
    """Merges a skip with x by a convolution of the channels [skip * scale, x] with kernel size 1; called as
    ``merge(skip, x, context)``.

    Fields:
        scale: the factor that multiplies the skip.
        dtype: the type of the computation.
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
    """Merges a skip with x by the sum skip + scale * x; called as ``merge(skip, x, context)``.

    The scale of each channel is computed from ``context.features`` [b, f].

    Fields:
        dtype: the type of the computation.

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
