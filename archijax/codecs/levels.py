"""Defines the levels of encoders and decoders: residual blocks between strided convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from archijax.arithmetic import ceil_div
from archijax.errors import InputError
from archijax.nn.arrays import biased
from archijax.nn.items import Resnet
from archijax.nn.linear import Conv, strided_conv, transposed_conv, uniform_init


class _Downsample(nn.Module):
    """Applies a convolution with kernel size ``2 * factor + 1`` and stride ``factor``. Zeros extend x to a multiple of
    the stride."""

    features: int
    factor: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b -(-n//{self.factor}) {self.features}"]:
        size, factor = 2 * self.factor + 1, self.factor
        init = uniform_init(size * x.shape[-1])
        kernel = self.param("kernel", init, (size, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        # strided_conv needs a kernel size that is a multiple of the stride, so zeros are added.
        kernel = jnp.pad(kernel, ((0, 3 * factor - size), (0, 0), (0, 0)))
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (factor, factor + -x.shape[1] % factor), (0, 0)))
        y = strided_conv(x, kernel.astype(self.dtype), factor)
        return biased(y, bias)


class _Upsample(nn.Module):
    """Applies a transposed convolution with kernel size ``2 * factor`` and stride ``factor``."""

    features: int
    factor: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n*{self.factor} {self.features}"]:
        init = uniform_init(2 * self.factor * self.features)
        kernel = self.param("kernel", init, (2 * self.factor, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        y = transposed_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.factor, padding=0)
        y = y[:, (self.factor + 1) // 2 :][:, : x.shape[1] * self.factor]
        return biased(y, bias)


class Patch(nn.Module):
    """Applies a residual block, and then joins each group of ``patch_size`` positions to one position.

    ``Patch(features=32, patch_size=4, dtype=jnp.float32)`` turns x [b, n, 4] into [b, n / 4, 32]. ``features`` must be
    a multiple of patch_size. Both c and ``features / patch_size`` must be multiples of ``min(patch_size, c)``, where c
    is the number of channels.

    Raises:
        InputError: the number of positions is not a multiple of patch_size.
    """

    features: int
    patch_size: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n//{self.patch_size} {self.features}"]:
        b, n, c = x.shape
        check_multiple(n, self.patch_size, "patch_size")
        channels = self.features // self.patch_size
        x = Resnet(min(self.patch_size, c), channels=channels, dtype=self.dtype, name="resnet")(x)
        return to_channels(x.reshape(b, n // self.patch_size, self.patch_size, -1))


def check_multiple(length: int, multiple: int, name: str) -> None:
    """Raises InputError if the length is 0 or not a multiple of ``multiple``. In the message, ``multiple`` is called
    ``name``."""
    if length == 0 or length % multiple:
        fitting = multiple * max(1, ceil_div(length, multiple))
        raise InputError(f"length {length} is not a multiple of {multiple} ({name}): pad to {fitting}")


def to_channels(x: Float[Array, "b n a c"]) -> Float[Array, "b n c*a"]:
    """Joins the last two axes to one axis of channels, in the order that the weights of the PyTorch originals need."""
    return jnp.swapaxes(x, 2, 3).reshape(*x.shape[:2], -1)


def from_channels(x: Float[Array, "b n channels"], size: int) -> Float[Array, "b n {size} c"]:
    """Inverts :func:`to_channels`: [b, n, channels] becomes [b, n, size, channels / size]."""
    return jnp.swapaxes(x.reshape(*x.shape[:2], -1, size), 2, 3)


class _Level(nn.Module):
    """A strided convolution and residual blocks.

    Fields:
        features: the number of output channels.
        factor: the stride.
        num_blocks: the number of residual blocks.
        groups: the number of groups of the group norms.
        dtype: the type of the computation.
    """

    features: int
    factor: int
    num_blocks: int
    groups: int
    dtype: DTypeLike

    def items(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        for i in range(self.num_blocks):
            x = Resnet(self.groups, dtype=self.dtype, name=f"items_{i}")(x)
        return x


class DownLevel(_Level):
    """Divides the length of x by the factor (rounded up), and then applies residual blocks.

    ``DownLevel(features=64, factor=4, num_blocks=2, groups=8, dtype=jnp.float32)`` turns x [b, n, c] into
    [b, ceil(n / 4), 64]. ``groups``, the number of groups of the group norms, must divide ``features``.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b m {self.features}"]:
        return self.items(_Downsample(self.features, self.factor, self.dtype, name="downsample")(x))


class UpLevel(_Level):
    """Applies residual blocks, and then multiplies the length of x by the factor.

    ``UpLevel(features=32, factor=4, num_blocks=2, groups=8, dtype=jnp.float32)`` turns x [b, n, c] into [b, 4 * n, 32].
    ``groups``, the number of groups of the group norms, must divide c.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n*{self.factor} {self.features}"]:
        x = self.items(x)
        if self.factor == 1:
            return Conv(self.features, 3, dtype=self.dtype, name="upsample")(x)
        return _Upsample(self.features, self.factor, self.dtype, name="upsample")(x)


class Levels(nn.Module, kw_only=True):
    """The base class of encoders and decoders, with their common fields. Each list is in order from the input to the
    output.

    Fields:
        channels: the number of channels for a multiplier of 1.
        multipliers: the list has one entry more than there are levels. Level i has ``channels * multipliers[i]`` input
            channels and ``channels * multipliers[i + 1]`` output channels.
        factors: for each level, the number by which an encoder divides the length, and a decoder multiplies it.
        num_blocks: the number of residual blocks of each level.
        patch_size: the number of samples of sound that are joined to one position. It must divide the number of
            channels of the level next to the sound.
        resnet_groups: the number of groups of the group norms. It must divide the number of channels of every level.
        dtype: the type of the computation.

    Raises:
        InputError: multipliers does not have one entry more than factors and num_blocks.
    """

    channels: int
    multipliers: Sequence[int]
    factors: Sequence[int]
    num_blocks: Sequence[int]
    patch_size: int = 1
    resnet_groups: int = 8
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        for name in ("factors", "num_blocks"):
            if (count := len(getattr(self, name))) != (needed := len(self.multipliers) - 1):
                raise InputError(f"{name} has {count} entries: {needed} are needed, one fewer than multipliers")
        super().__post_init__()

    @property
    def widths(self) -> tuple[int, ...]:
        """Returns the number of input channels of each level, and then the output channels of the last level."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def downsample_factor(self) -> int:
        """Returns the number of input positions (samples, or frames of a spectrogram) per frame of the latent."""
        return self.patch_size * math.prod(self.factors)

    def _level(self, kind: type[_Level], i: int) -> _Level:
        return kind(self.widths[i + 1], self.factors[i], self.num_blocks[i], self.resnet_groups, self.dtype)

    def _check_patches(self, width: int) -> None:
        if width % self.patch_size:
            raise InputError(f"{width} channels do not divide into patches of {self.patch_size}: use a multiple of it")
