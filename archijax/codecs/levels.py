"""Levels of encoders and decoders: resnets between strided convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.errors import InputError
from archijax.nn.arrays import biased
from archijax.nn.items import Resnet
from archijax.nn.linear import Conv, strided_conv, transposed_conv, uniform_init


class _Downsample(nn.Module):
    """Convolution of kernel 2 * factor + 1 and stride factor; an incomplete last step is filled with zeros."""

    features: int
    factor: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, factor = 2 * self.factor + 1, self.factor
        init = uniform_init(size * x.shape[-1])
        kernel = self.param("kernel", init, (size, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        # Zeros make the kernel a multiple of the stride, as strided_conv needs.
        kernel = jnp.pad(kernel, ((0, 3 * factor - size), (0, 0), (0, 0)))
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (factor, factor + -x.shape[1] % factor), (0, 0)))
        y = strided_conv(x, kernel.astype(self.dtype), factor)
        return biased(y, bias)


class _Upsample(nn.Module):
    """Transposed convolution of kernel 2 * factor and stride factor, n positions to n * factor."""

    features: int
    factor: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_init(2 * self.factor * self.features)
        kernel = self.param("kernel", init, (2 * self.factor, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        y = transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.factor, padding=0)
        y = y[:, (self.factor + 1) // 2 :][:, : x.shape[1] * self.factor]
        return biased(y, bias)


class Patch(nn.Module):
    """A resnet, then every ``patch_size`` positions as channels: [b, n, c] -> [b, n / patch_size, features]."""

    features: int
    patch_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, n, c = x.shape
        check_multiple(n, self.patch_size, "patch_size")
        channels = self.features // self.patch_size
        x = Resnet(min(self.patch_size, c), channels=channels, dtype=self.dtype, name="resnet")(x)
        return to_channels(x.reshape(b, n // self.patch_size, self.patch_size, -1))


def check_multiple(length: int, multiple: int, what: str) -> None:
    if length == 0 or length % multiple:
        fitting = multiple * max(1, ceil_div(length, multiple))
        raise InputError(f"length {length} is not a multiple of {multiple} ({what}): pad to {fitting}")


def to_channels(x: jax.Array) -> jax.Array:
    """[b, n, a, c] -> [b, n, c * a]: the originals' order of channels, which their weights are for."""
    return jnp.swapaxes(x, 2, 3).reshape(*x.shape[:2], -1)


def from_channels(x: jax.Array, size: int) -> jax.Array:
    """[b, n, c * a] -> [b, n, a, c] with a = size, the inverse of :func:`to_channels`."""
    return jnp.swapaxes(x.reshape(*x.shape[:2], -1, size), 2, 3)


class _Level(nn.Module):
    features: int
    factor: int
    num_blocks: int
    groups: int
    dtype: jnp.dtype

    def items(self, x: jax.Array) -> jax.Array:
        for i in range(self.num_blocks):
            x = Resnet(self.groups, dtype=self.dtype, name=f"items_{i}")(x)
        return x


class DownLevel(_Level):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.items(_Downsample(self.features, self.factor, self.dtype, name="downsample")(x))


class UpLevel(_Level):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.items(x)
        if self.factor == 1:
            return Conv(self.features, 3, dtype=self.dtype, name="upsample")(x)
        return _Upsample(self.features, self.factor, self.dtype, name="upsample")(x)


class Levels(nn.Module, kw_only=True):
    """What encoders and decoders have in common.

    Fields:
        channels, multipliers: the channels between levels are channels * multipliers[i], in the direction of the data.
        factors, num_blocks: how many times each level shortens or lengthens, and how many resnets it has; one entry
            fewer than multipliers.
        patch_size: samples that become one position before the first level.
        resnet_groups: of the norms, dividing every level's channels.
        dtype: of the computation.
    """

    channels: int
    multipliers: Sequence[int]
    factors: Sequence[int]
    num_blocks: Sequence[int]
    patch_size: int = 1
    resnet_groups: int = 8
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        for name in ("factors", "num_blocks"):
            if (count := len(getattr(self, name))) != (needed := len(self.multipliers) - 1):
                raise InputError(f"{name} has {count} entries: {needed}, one fewer than multipliers, needed")
        super().__post_init__()

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def downsample_factor(self) -> int:
        """Positions of the data per position of the latent."""
        return self.patch_size * math.prod(self.factors)

    def _level(self, make: type[_Level], i: int) -> _Level:
        return make(self.widths[i + 1], self.factors[i], self.num_blocks[i], self.resnet_groups, self.dtype)

    def _check_patches(self, width: int) -> None:
        if width % self.patch_size:
            raise InputError(f"{width} channels do not divide into patches of {self.patch_size}: use a multiple")
