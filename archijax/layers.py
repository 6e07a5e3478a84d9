"""Convolutions, norms, resampling and the residual blocks of the U-Net, in any number of dimensions.

Arrays are channels last, ``[batch, *positions, channels]``: one position axis for sound, two or three work by the same
code. Parameters are float32 and start as PyTorch starts them, so that recipes of the originals carry over; ``dtype`` is
the type of the computation, and statistics of norms are at least float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from .errors import InputError


@partial(jax.jit, static_argnums=1)
def _uniform(key: jax.Array, count: int) -> jax.Array:
    return jax.random.uniform(key, (count,), jnp.float32, -1.0, 1.0)


@partial(jax.jit, static_argnums=2)
def _scaled(values: jax.Array, bound: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return (values[: math.prod(shape)] * bound).reshape(shape)


def uniform_init(fan_in: int):
    """PyTorch's default for weights and biases: U(-b, b) with b = fan_in ** -0.5.

    Numbers are drawn in counts that are powers of two and cut to size: compiling the generator for every shape would
    take most of the time that initialising a large net takes.
    """

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        count = 1 << max(10, (math.prod(shape) - 1).bit_length())
        return _scaled(_uniform(key, count), jnp.float32(fan_in**-0.5), tuple(shape))

    return init


def full(x: jax.Array) -> jax.Array:
    """x in at least float32."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def spread(v: jax.Array, x: jax.Array) -> jax.Array:
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


# --- linear maps ---


def conv(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    """Convolution (as networks mean it) of stride 1 without padding.

    Args:
        x: [b, *positions, c_in].
        kernel: [*sizes, c_in / groups, c_out], as many sizes as positions.

    Returns:
        [b, *positions - sizes + 1, c_out].
    """
    letters = "WHD"[: x.ndim - 2][::-1]
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, (f"N{letters}C", f"{letters}IO", f"N{letters}C"))
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=numbers, feature_group_count=groups)


def pad_positions(x: jax.Array, padding: int, mode: str = "constant") -> jax.Array:
    """Pads every position axis by ``padding`` on both sides (explicitly: padded convolutions are slow on CPU)."""
    if padding == 0:
        return x
    return jnp.pad(x, ((0, 0), *((padding, padding),) * (x.ndim - 2), (0, 0)), mode=mode)


def fold(x: jax.Array, factor: int) -> jax.Array:
    """Space to depth: [b, *positions, c] -> [b, *positions / factor, factor ** dims * c]."""
    b, *positions, c = x.shape
    dims = len(positions)
    shape = [b]
    for n in positions:
        shape += [n // factor, factor]
    x = x.reshape(*shape, c)
    order = [0, *range(1, 2 * dims + 1, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x.transpose(order).reshape(b, *(n // factor for n in positions), factor**dims * c)


def unfold(x: jax.Array, factor: int) -> jax.Array:
    """Depth to space, the inverse of :func:`fold`."""
    b, *positions, c = x.shape
    dims = len(positions)
    x = x.reshape(b, *positions, *(factor,) * dims, c // factor**dims)
    order = [0]
    for axis in range(dims):
        order += [1 + axis, 1 + dims + axis]
    return x.transpose(*order, 2 * dims + 1).reshape(b, *(n * factor for n in positions), c // factor**dims)


def strided_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution with a stride and no padding; kernel sizes are multiples of the stride.

    Positions are folded into channels first, which turns it into a stride-1 convolution: that form keeps its speed in
    the backward pass on every platform.
    """
    *sizes, c_in, c_out = kernel.shape
    kernel = fold(kernel.reshape(1, *sizes, c_in * c_out), stride)[0]
    folds = stride ** len(sizes)
    kernel = kernel.reshape(*(k // stride for k in sizes), folds * c_in, c_out)
    return conv(fold(x, stride), kernel)


def transposed_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Transposed convolution, PyTorch's ConvTranspose; kernel sizes are multiples of the stride.

    Written polyphase: a stride-1 convolution gives the ``stride`` outputs that belong to each input position.

    Args:
        x: [b, *positions, c_in].
        kernel: [*sizes, c_in, c_out].

    Returns:
        [b, *(positions - 1) * stride + sizes - 2 * padding, c_out].
    """
    *sizes, c_in, c_out = kernel.shape
    dims, taps = len(sizes), sizes[0] // stride
    kernel = fold(kernel.reshape(1, *sizes, c_in * c_out), stride)[0]
    kernel = kernel.reshape(*(taps,) * dims, stride**dims, c_in, c_out)
    kernel = jnp.flip(jnp.swapaxes(kernel, -3, -2), tuple(range(dims)))
    y = conv(pad_positions(x, taps - 1), kernel.reshape(*(taps,) * dims, c_in, stride**dims * c_out))
    y = unfold(y, stride)
    inner = (slice(padding, n - padding) for n in y.shape[1:-1])
    return y[(slice(None), *inner)]


class Weight(nn.Module):
    """The kernel [c, features] of a linear map without bias, for who multiplies with it in another order."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, c: int) -> jax.Array:
        return self.param("kernel", uniform_init(c), (c, self.features)).astype(self.dtype)


class Linear(nn.Module):
    """Linear map of the last axis, [..., c] -> [..., features]."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", uniform_init(x.shape[-1]), (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return biased(y, self.param("bias", uniform_init(x.shape[-1]), (self.features,)))


class Conv(nn.Module):
    """Convolution of odd kernel size that keeps the length: [b, *positions, c] -> [b, *positions, features]."""

    features: int
    kernel_size: int = 1
    groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kernel_size % 2 == 0:
            raise InputError(f"kernel size {self.kernel_size} is even: a length-keeping kernel must be odd")
        sizes = (self.kernel_size,) * (x.ndim - 2)
        channels = x.shape[-1] // self.groups
        init = uniform_init(math.prod(sizes) * channels)
        kernel = self.param("kernel", init, (*sizes, channels, self.features))
        bias = self.param("bias", init, (self.features,))
        x = pad_positions(x.astype(self.dtype), self.kernel_size // 2)
        y = conv(x, kernel.astype(self.dtype), self.groups)
        return biased(y, bias)


def _kernel_size(what: str, width: int, factor: int) -> int:
    """factor * width, and 1 at factor 1; it must be possible to centre it on ``factor`` positions."""
    size = factor * (width if factor > 1 else 1)
    if (size - factor) % 2:
        raise InputError(
            f"{what} width {width} cannot be centred at factor {factor}: factor * (width - 1) must be even"
        )
    return size


class Downsample(nn.Module):
    """Convolution that shortens every position axis by ``factor``: kernel width * factor, stride factor.

    Call: [b, *positions, c] -> [b, *positions / factor, channels]. At factor 1 it is a kernel-1 convolution.
    """

    width: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, channels: int, factor: int) -> jax.Array:
        size = _kernel_size("downsampling", self.width, factor)
        sizes = (size,) * (x.ndim - 2)
        init = uniform_init(math.prod(sizes) * x.shape[-1])
        kernel = self.param("kernel", init, (*sizes, x.shape[-1], channels))
        bias = self.param("bias", init, (channels,))
        x = pad_positions(x.astype(self.dtype), (size - factor) // 2)
        y = strided_conv(x, kernel.astype(self.dtype), factor)
        return biased(y, bias)


class UpsampleNearest(nn.Module):
    """Every position repeated ``factor`` times, then a convolution: [b, n, c] -> [b, n * factor, channels]."""

    kernel_size: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, channels: int, factor: int) -> jax.Array:
        for axis in range(1, x.ndim - 1):
            x = jnp.repeat(x, factor, axis)
        return Conv(channels, self.kernel_size, dtype=self.dtype, name="conv")(x)


class UpsampleTranspose(nn.Module):
    """Transposed convolution, kernel width * factor and stride factor: [b, n, c] -> [b, n * factor, channels]."""

    width: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, channels: int, factor: int) -> jax.Array:
        size = _kernel_size("upsampling", self.width, factor)
        sizes = (size,) * (x.ndim - 2)
        # PyTorch takes the fan of a transposed convolution from its output side.
        init = uniform_init(math.prod(sizes) * channels)
        kernel = self.param("kernel", init, (*sizes, x.shape[-1], channels))
        bias = self.param("bias", init, (channels,))
        y = transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype), factor, padding=(size - factor) // 2)
        return biased(y, bias)


# --- norms ---


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


# --- items of a U-Net: (x, context) -> x ---


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
        y = gamma * (y * spread(response, x)) + beta + y
        return y.astype(x.dtype)


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
        y = normalize(x, 1e-6) * spread(1 + scale, x) + spread(shift, x)
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


# --- merges of a skip connection: (skip, x, context) -> x ---


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
        return (full(skip) + spread(full(scale), x) * full(x)).astype(x.dtype)
