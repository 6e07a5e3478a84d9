"""Contains convolutional layers that divide or multiply the number of positions by an integer factor."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from archijax.errors import InputError
from archijax.nn.arrays import biased
from archijax.nn.linear import Conv, pad_positions, strided_conv, transposed_conv, uniform_init


def _kernel_size(operation: str, width: int, factor: int) -> int:
    """Returns the kernel size: ``factor * width``, or 1 if the factor is 1. Raises InputError if padding cannot be
    equal at both ends.
    """
    size = factor * (width if factor > 1 else 1)
    if (size - factor) % 2:
        raise InputError(
            f"{operation} width {width} cannot be centred at factor {factor}: factor * (width - 1) must be even"
        )
    return size


class Downsample(nn.Module):
    """Divides the length of every position axis by ``factor``, with a strided convolution.

    ``y, variables = Downsample().init_with_output(key, x, channels, factor)`` gives y [b, *positions / factor,
    channels]. The factor must divide the length of every position axis. With factor 1 the kernel size is 1.

    Fields:
        width: a number that defines the kernel size, ``factor * width``. ``factor * (width - 1)`` must be even.
        dtype: the type of the computation and of the result.

    Raises:
        InputError: ``factor * (width - 1)`` is odd.
    """

    width: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions c"], channels: int, factor: int
    ) -> Float[Array, "b *resampled {channels}"]:
        size = _kernel_size("downsampling", self.width, factor)
        sizes = (size,) * (x.ndim - 2)
        init = uniform_init(math.prod(sizes) * x.shape[-1])
        kernel = self.param("kernel", init, (*sizes, x.shape[-1], channels))
        bias = self.param("bias", init, (channels,))
        x = pad_positions(x.astype(self.dtype), (size - factor) // 2)
        y = strided_conv(x, kernel.astype(self.dtype), factor)
        return biased(y, bias)


class UpsampleNearest(nn.Module):
    """Repeats each position of x ``factor`` times on every position axis, then applies a convolution.

    ``y, variables = UpsampleNearest().init_with_output(key, x, channels, factor)`` gives y [b, *positions * factor,
    channels].

    Fields:
        kernel_size: the kernel size of the convolution, an odd number.
        dtype: the type of the computation and of the result.
    """

    kernel_size: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions c"], channels: int, factor: int
    ) -> Float[Array, "b *resampled {channels}"]:
        for axis in range(1, x.ndim - 1):
            x = jnp.repeat(x, factor, axis)
        return Conv(channels, self.kernel_size, dtype=self.dtype, name="conv")(x)


class UpsampleTranspose(nn.Module):
    """Multiplies the length of every position axis by ``factor``, with a transposed convolution.

    ``y, variables = UpsampleTranspose().init_with_output(key, x, channels, factor)`` gives y [b, *positions * factor,
    channels]. With factor 1 the kernel size is 1.

    Fields:
        width: a number that defines the kernel size, ``factor * width``. ``factor * (width - 1)`` must be even.
        dtype: the type of the computation and of the result.

    Raises:
        InputError: ``factor * (width - 1)`` is odd.
    """

    width: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions c"], channels: int, factor: int
    ) -> Float[Array, "b *resampled {channels}"]:
        size = _kernel_size("upsampling", self.width, factor)
        sizes = (size,) * (x.ndim - 2)
        # PyTorch computes the fan-in of a transposed convolution from its output channels.
        init = uniform_init(math.prod(sizes) * channels)
        kernel = self.param("kernel", init, (*sizes, x.shape[-1], channels))
        bias = self.param("bias", init, (channels,))
        y = transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype), factor, padding=(size - factor) // 2)
        return biased(y, bias)
