"""Contains linear maps and convolutions for one, two or three position axes.

Arrays have the channels last, ``[batch, *positions, channels]``. Sound has one position axis. Parameters are float32.
Initial parameters have the same distribution as in PyTorch. The training settings of the original code therefore still
apply. ``dtype`` is the type of the computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from archijax.errors import InputError
from archijax.nn.arrays import biased


@partial(jax.jit, static_argnums=1)
def _uniform(key: Shaped[Array, " ..."], count: int) -> Float[Array, " {count}"]:
    return jax.random.uniform(key, (count,), jnp.float32, -1.0, 1.0)


@partial(jax.jit, static_argnums=2)
def _scaled(values: Float[Array, " count"], bound: Float[Array, ""], shape: tuple[int, ...]) -> Float[Array, " ..."]:
    return (values[: math.prod(shape)] * bound).reshape(shape)


def uniform_init(fan_in: int) -> Callable[..., Array]:
    """Returns PyTorch's default initialiser of weights and biases, a function ``init(key, shape)``. The initialiser
    returns float32 numbers that are uniform in (-b, b), with ``b = fan_in ** -0.5``.

    The number of drawn values is rounded up to a power of two, so the random generator is compiled for few sizes only.
    Without rounding, the compilation would take most of the time of initialising a large net.
    """

    def init(key: Shaped[Array, " ..."], shape: tuple[int, ...]) -> Float[Array, " ..."]:
        count = 1 << max(10, (math.prod(shape) - 1).bit_length())
        return _scaled(_uniform(key, count), jnp.float32(fan_in**-0.5), tuple(shape))

    return init


def conv(
    x: Float[Array, "b *positions c_in"], kernel: Float[Array | np.ndarray, "*sizes _ c_out"], groups: int = 1
) -> Float[Array, "b *out c_out"]:
    """Convolves (cross-correlates) x with a kernel, with stride 1 and without padding.

    Args:
        kernel: an array [*sizes, c_in / groups, c_out], with one kernel size per position axis.
        groups: the number of groups of channels, a divisor of c_in and of c_out.

    Returns:
        An array [b, *out, c_out], where ``out = positions - size + 1`` for each position axis.
    """
    if x.ndim == 3 and groups == x.shape[-1] == kernel.shape[-1]:
        return depthwise(x, kernel[:, 0])
    letters = "WHD"[: x.ndim - 2][::-1]
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, (f"N{letters}C", f"{letters}IO", f"N{letters}C"))
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=numbers, feature_group_count=groups)


def depthwise(x: Float[Array, "b n c"], kernel: Float[Array | np.ndarray, "taps c"]) -> Float[Array, "b out c"]:
    """Convolves each channel of x [b, n, c] with the filter ``kernel[:, channel]``, with stride 1 and without padding.
    The result is [b, n - taps + 1, c].

    The function sums shifted copies of x, each multiplied by one row of the kernel. XLA compiles the sum to one loop.
    On CPU, XLA's own depthwise convolution is far slower.
    """
    count = x.shape[1] - len(kernel) + 1
    return sum(x[:, i : i + count] * kernel[i] for i in range(len(kernel)))


def pad_positions(
    x: Float[Array, "b *positions c"], padding: int, mode: str = "constant"
) -> Float[Array, "b *padded c"]:
    """Pads every position axis of x by ``padding`` positions at both ends. ``jnp.pad`` defines ``mode``.

    On CPU, padding before a convolution is faster than a convolution that pads its input.
    """
    if padding == 0:
        return x
    return jnp.pad(x, ((0, 0), *((padding, padding),) * (x.ndim - 2), (0, 0)), mode=mode)


def fold(x: Float[Array, "b *positions c"], factor: int) -> Float[Array, "b *folded channels"]:
    """Moves positions into channels (space to depth). With d position axes, [b, *positions, c] becomes [b, *positions /
    factor, factor^d * c]. The factor must divide the length of every position axis.
    """
    b, *positions, c = x.shape
    dims = len(positions)
    shape = [b]
    for n in positions:
        shape += [n // factor, factor]
    x = x.reshape(*shape, c)
    order = [0, *range(1, 2 * dims + 1, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x.transpose(order).reshape(b, *(n // factor for n in positions), factor**dims * c)


def unfold(x: Float[Array, "b *folded channels"], factor: int) -> Float[Array, "b *positions c"]:
    """Moves channels into positions (depth to space), the inverse of :func:`fold`. With d position axes, [b,
    *positions, c] becomes [b, *positions * factor, c / factor^d].
    """
    b, *positions, c = x.shape
    dims = len(positions)
    x = x.reshape(b, *positions, *(factor,) * dims, c // factor**dims)
    order = [0]
    for axis in range(dims):
        order += [1 + axis, 1 + dims + axis]
    return x.transpose(*order, 2 * dims + 1).reshape(b, *(n * factor for n in positions), c // factor**dims)


def strided_conv(
    x: Float[Array, "b *positions c_in"], kernel: Float[Array | np.ndarray, "*sizes c_in c_out"], stride: int
) -> Float[Array, "b *out c_out"]:
    """Convolves (cross-correlates) x with a stride and without padding. The stride must divide every kernel size and
    the length of every position axis.

    The function folds positions into channels (see :func:`fold`), and then applies a convolution with stride 1. The
    backward pass of a convolution with stride 1 is fast on every platform.

    Returns:
        An array [b, *out, c_out], where ``out = (positions - size) / stride + 1`` for each position axis.
    """
    *sizes, c_in, c_out = kernel.shape
    kernel = fold(jnp.asarray(kernel).reshape(1, *sizes, c_in * c_out), stride)[0]
    folds = stride ** len(sizes)
    kernel = kernel.reshape(*(k // stride for k in sizes), folds * c_in, c_out)
    return conv(fold(x, stride), kernel)


def transposed_conv(
    x: Float[Array, "b *positions c_in"],
    kernel: Float[Array | np.ndarray, "*sizes c_in c_out"],
    stride: int,
    padding: int,
) -> Float[Array, "b *out c_out"]:
    """Applies a transposed convolution, like PyTorch's ConvTranspose. All position axes have the same kernel size,
    which must be a multiple of the stride.

    The computation is polyphase: a convolution with stride 1 computes ``stride`` outputs for each input position.

    Returns:
        An array [b, *out, c_out], where ``out = (positions - 1) * stride + size - 2 * padding`` for each position axis.
    """
    *sizes, c_in, c_out = kernel.shape
    dims, taps = len(sizes), sizes[0] // stride
    kernel = fold(jnp.asarray(kernel).reshape(1, *sizes, c_in * c_out), stride)[0]
    kernel = kernel.reshape(*(taps,) * dims, stride**dims, c_in, c_out)
    kernel = jnp.flip(jnp.swapaxes(kernel, -3, -2), tuple(range(dims)))
    y = conv(pad_positions(x, taps - 1), kernel.reshape(*(taps,) * dims, c_in, stride**dims * c_out))
    y = unfold(y, stride)
    inner = (slice(padding, n - padding) for n in y.shape[1:-1])
    return y[(slice(None), *inner)]


class Weight(nn.Module):
    """Holds the kernel of a linear map without bias. ``kernel, variables = Weight(8).init_with_output(key, c)`` gives a
    kernel [c, 8], where c is an int. The caller multiplies its features by the kernel.

    Fields:
        features: the number of output features of the linear map.
        dtype: the type of the returned kernel.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, c: int) -> Float[Array, "{c} {self.features}"]:
        return self.param("kernel", uniform_init(c), (c, self.features)).astype(self.dtype)


class Linear(nn.Module):
    """Applies a linear map with a bias to the last axis of x.

    ``y, variables = Linear(8).init_with_output(key, x)`` gives y [..., 8].

    Fields:
        features: the length of the last axis of the result.
        dtype: the type of the computation and of the result.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape {self.features}"]:
        kernel = self.param("kernel", uniform_init(x.shape[-1]), (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return biased(y, self.param("bias", uniform_init(x.shape[-1]), (self.features,)))


class Conv(nn.Module):
    """Convolves x with stride 1. Zeros pad both ends of x, so the result has as many positions as x.

    ``y, variables = Conv(8, 3).init_with_output(key, x)`` gives y [b, *positions, 8].

    Fields:
        features: the number of channels of the result.
        kernel_size: the kernel size on every position axis, an odd number.
        groups: the number of groups of channels, a divisor of the number of channels of x and of features.
        dtype: the type of the computation and of the result.

    Raises:
        InputError: the kernel size is even.
    """

    features: int
    kernel_size: int = 1
    groups: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"]) -> Float[Array, "b *positions {self.features}"]:
        if self.kernel_size % 2 == 0:
            raise InputError(
                f"kernel size {self.kernel_size} is even: it must be odd, so that the length stays the same"
            )
        sizes = (self.kernel_size,) * (x.ndim - 2)
        channels = x.shape[-1] // self.groups
        init = uniform_init(math.prod(sizes) * channels)
        kernel = self.param("kernel", init, (*sizes, channels, self.features))
        bias = self.param("bias", init, (self.features,))
        x = pad_positions(x.astype(self.dtype), self.kernel_size // 2)
        y = conv(x, kernel.astype(self.dtype), self.groups)
        return biased(y, bias)
