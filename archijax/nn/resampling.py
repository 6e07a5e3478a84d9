"""Convolutions that shorten or lengthen the positions of an array by a whole factor."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.nn.arrays import biased
from archijax.nn.linear import Conv, pad_positions, strided_conv, transposed_conv, uniform_init


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
