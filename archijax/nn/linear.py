"""Linear maps and convolutions, in any number of dimensions.

Arrays have the channels last, ``[batch, *positions, channels]``. Sound has one position axis; the same code works for
two or three position axes. Parameters are float32. Initial parameters have the distribution that PyTorch uses, so that
training settings of the original code still apply. ``dtype`` is the type of the computation.
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
    """Returns PyTorch's default initialiser of weights and biases: uniform numbers in (-b, b) with b = fan_in ** -0.5.

    The initialiser rounds the number of random numbers up to a power of two, so that the random generator is compiled
    for few sizes. Compiling the generator for every shape would take most of the time of initialising a large net.
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
        kernel: [*sizes, c_in / groups, c_out], with one kernel size per position axis.

    Returns:
        [b, *out, c_out]. Each position axis of the result has positions - size + 1 entries.
    """
    if x.ndim == 3 and groups == x.shape[-1] == kernel.shape[-1]:
        return depthwise(x, kernel[:, 0])
    letters = "WHD"[: x.ndim - 2][::-1]
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, (f"N{letters}C", f"{letters}IO", f"N{letters}C"))
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=numbers, feature_group_count=groups)


def depthwise(x: Float[Array, "b n c"], kernel: Float[Array | np.ndarray, "taps c"]) -> Float[Array, "b out c"]:
    """Convolves each channel of x with its own filter, with stride 1 and without padding.

    XLA compiles this sum of shifted products to one loop. The depthwise convolution of XLA is far slower on CPU.
    """
    count = x.shape[1] - len(kernel) + 1
    return sum(x[:, i : i + count] * kernel[i] for i in range(len(kernel)))


def pad_positions(
    x: Float[Array, "b *positions c"], padding: int, mode: str = "constant"
) -> Float[Array, "b *padded c"]:
    """Pads every position axis of x by ``padding`` positions at both ends. ``mode`` is that of ``jnp.pad``.

    On CPU, padding first is faster than a convolution that pads by itself.
    """
    if padding == 0:
        return x
    return jnp.pad(x, ((0, 0), *((padding, padding),) * (x.ndim - 2), (0, 0)), mode=mode)


def fold(x: Float[Array, "b *positions c"], factor: int) -> Float[Array, "b *folded channels"]:
    """Space to depth: [b, *positions, c] becomes [b, *positions / factor, factor ** len(positions) * c]."""
    b, *positions, c = x.shape
    dims = len(positions)
    shape = [b]
    for n in positions:
        shape += [n // factor, factor]
    x = x.reshape(*shape, c)
    order = [0, *range(1, 2 * dims + 1, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x.transpose(order).reshape(b, *(n // factor for n in positions), factor**dims * c)


def unfold(x: Float[Array, "b *folded channels"], factor: int) -> Float[Array, "b *positions c"]:
    """Depth to space: the inverse of :func:`fold`."""
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
    """Convolves x with a stride and without padding. Kernel sizes and numbers of positions must be multiples of the
    stride.

    Positions are folded into channels (see :func:`fold`), so that a convolution with stride 1 gives the result. The
    backward pass of a convolution with stride 1 is fast on every platform.
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
        [b, *out, c_out]. Each position axis of the result has (positions - 1) * stride + size - 2 * padding entries.
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
    """Returns the kernel [c, features] of a linear map without bias. The caller multiplies by the kernel."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, c: int) -> Float[Array, "{c} {self.features}"]:
        return self.param("kernel", uniform_init(c), (c, self.features)).astype(self.dtype)


class Linear(nn.Module):
    """A linear map of the last axis, with a bias."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape {self.features}"]:
        kernel = self.param("kernel", uniform_init(x.shape[-1]), (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return biased(y, self.param("bias", uniform_init(x.shape[-1]), (self.features,)))


class Conv(nn.Module):
    """A convolution with stride 1, padded with zeros so that the result has the length of x.

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
