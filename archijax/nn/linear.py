"""Convolutions, norms, resampling and the residual blocks of the U-Net, in any number of dimensions.

Arrays are channels last, ``[batch, *positions, channels]``: one position axis for sound, two or three work by the same
code. Parameters are float32 and start as PyTorch starts them, so that recipes of the originals carry over; ``dtype`` is
the type of the computation, and statistics of norms are at least float32.
"""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from archijax.errors import InputError
from archijax.nn.arrays import biased


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


# --- norms ---


# --- items of a U-Net: (x, context) -> x ---


# --- merges of a skip connection: (skip, x, context) -> x ---
