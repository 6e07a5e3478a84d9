"""Oobleck, the autoencoder of Stable Audio: convolutions on samples around a Gaussian latent (Evans et al. 2024).

After the Descript audio codec (Kumar et al. 2023): residual units of growing dilation at every rate, snake activations,
strided convolutions between the rates. The originals' weight norm is folded into the kernels when weights are loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from archijax.arithmetic import ceil_div
from archijax.codecs.bottlenecks import Bottleneck
from archijax.codecs.levels import check_multiple
from archijax.errors import InputError
from archijax.nn.arrays import biased, full, halves
from archijax.nn.linear import pad_positions, strided_conv, transposed_conv, uniform_init
from archijax.nn.snake import Snake

DILATIONS = (1, 3, 9)  # of the residual units at one rate
KERNEL = 7  # taps of theirs, and of the convolutions next to the sound


class DilatedConv(nn.Module):
    """Convolution with taps ``dilation`` apart that keeps the length: [b, n, c] -> [b, n, features]."""

    features: int
    kernel_size: int = KERNEL
    dilation: int = 1
    bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_init(self.kernel_size * x.shape[-1])
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1], self.features)).astype(self.dtype)
        x = pad_positions(x.astype(self.dtype), self.dilation * (self.kernel_size // 2))
        numbers = ("NHC", "HIO", "NHC")
        y = lax.conv_general_dilated(
            x, kernel, (1,), "VALID", rhs_dilation=(self.dilation,), dimension_numbers=numbers
        )  # fmt: skip
        return biased(y, self.param("bias", init, (self.features,))) if self.bias else y


class StridedConv(nn.Module):
    """Convolution of kernel 2 * stride: [b, n, c] -> [b, n / stride, features], or where transposed n * stride."""

    features: int
    stride: int
    transposed: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = 2 * self.stride * (self.features if self.transposed else x.shape[-1])
        init = uniform_init(fan_in)
        kernel = self.param("kernel", init, (2 * self.stride, x.shape[-1], self.features)).astype(self.dtype)
        bias, x, margin = self.param("bias", init, (self.features,)), x.astype(self.dtype), self.stride // 2
        if self.transposed:
            return biased(transposed_conv(x, kernel, self.stride, margin), bias)
        return biased(strided_conv(pad_positions(x, margin), kernel, self.stride), bias)


class ResidualUnit(nn.Module):
    """x plus snake, dilated convolution, snake, convolution of kernel 1."""

    dilation: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        y = DilatedConv(c, dilation=self.dilation, dtype=self.dtype, name="conv")(Snake(name="snake")(x))
        y = DilatedConv(c, kernel_size=1, dtype=self.dtype, name="mix")(Snake(name="snake_mix")(y))
        return x.astype(y.dtype) + y


class SoftplusBottleneck(Bottleneck):
    """A Gaussian per latent: [b, n, 2 c] holds means and scales, of which softplus(scale) + 1e-4 is the deviation.

    With keys or draws [b, n, c] the latent is a sample, without it is the mean. ``info`` has "mean", "deviation", "kl",
    twice the divergence from a standard Gaussian averaged over all latents, and "loss", that times ``loss_weight``.
    """

    loss_weight: float = 1e-4

    def draw(self, keys: jax.Array, shape: tuple[int, int]) -> jax.Array:
        return jax.vmap(lambda key: jax.random.normal(key, (shape[0], shape[1] // 2)))(keys)

    def __call__(self, x, *, keys=None, draws=None, train=False):
        mean, scale = halves(full(x))
        deviation = jax.nn.softplus(scale) + 1e-4
        eps = self._draws(x, keys, draws, train)
        kl = jnp.mean(jnp.square(mean) + jnp.square(deviation) - 2 * jnp.log(deviation) - 1)
        info = {"loss": self.loss_weight * kl, "kl": kl, "mean": mean, "deviation": deviation}
        return (mean if eps is None else mean + deviation * eps), info


class OobleckEncoder(nn.Module):
    """Sound [b, time, c] to [b, time / product of strides, out_channels].

    Fields: channels at the sound's rate; multipliers of them after each stride; strides, even numbers.
    """

    channels: int
    multipliers: Sequence[int]
    strides: Sequence[int]
    out_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = DilatedConv(self.channels, dtype=self.dtype, name="to_in")(x)
        for i, (multiplier, stride) in enumerate(zip(self.multipliers, self.strides, strict=True)):
            for j, dilation in enumerate(DILATIONS):
                x = ResidualUnit(dilation, self.dtype, name=f"down_{i}_unit_{j}")(x)
            x = Snake(name=f"down_{i}_snake")(x)
            x = StridedConv(self.channels * multiplier, stride, dtype=self.dtype, name=f"down_{i}")(x)
        x = Snake(name="snake")(x)
        return full(DilatedConv(self.out_channels, kernel_size=3, dtype=self.dtype, name="to_out")(x))


class OobleckDecoder(nn.Module):
    """A latent [b, n, c] to sound [b, n * product of strides, out_channels]; fields as of :class:`OobleckEncoder`."""

    channels: int
    multipliers: Sequence[int]
    strides: Sequence[int]
    out_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        widths = [self.channels * multiplier for multiplier in (1, *self.multipliers)]
        x = DilatedConv(widths[-1], dtype=self.dtype, name="to_in")(z)
        for i, (width, stride) in reversed(list(enumerate(zip(widths[:-1], self.strides, strict=True)))):
            x = Snake(name=f"up_{i}_snake")(x)
            x = StridedConv(width, stride, transposed=True, dtype=self.dtype, name=f"up_{i}")(x)
            for j, dilation in enumerate(DILATIONS):
                x = ResidualUnit(dilation, self.dtype, name=f"up_{i}_unit_{j}")(x)
        x = Snake(name="snake")(x)
        return full(DilatedConv(self.out_channels, bias=False, dtype=self.dtype, name="to_out")(x))


class Oobleck(nn.Module):
    """The two around a Gaussian latent: sound [b, time, in_channels] to [b, frames, latent_channels] and back.

    Fields:
        in_channels: of the sound; latent_channels: of the latent.
        channels, decoder_channels: of the encoder and the decoder at the sound's rate; None: the same.
        multipliers, strides: from sound to latent, one entry per stride; strides are even.
        bottleneck: what makes a latent of the 2 * latent_channels numbers of a frame.
        block_frames: longer sounds and latents are coded by blocks of so many frames one after the other, at constant
            memory. Blocks see ``overlap`` frames on either side, so that the result is that of the whole. None: never.

    Raises:
        InputError: lists of different lengths, or odd strides.
    """

    in_channels: int
    latent_channels: int
    channels: int = 128
    decoder_channels: int | None = None
    multipliers: Sequence[int] = (1, 2, 4, 8, 16)
    strides: Sequence[int] = (2, 4, 4, 8, 8)
    bottleneck: Sequence[Bottleneck] = dataclasses.field(default_factory=lambda: (SoftplusBottleneck(),))
    block_frames: int | None = 128
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if len(self.multipliers) != len(self.strides):
            raise InputError(
                f"multipliers has {len(self.multipliers)} entries and strides {len(self.strides)}: one each is needed"
            )
        if odd := [stride for stride in self.strides if stride < 2 or stride % 2]:
            raise InputError(f"the stride {odd[0]} is not an even number: by others lengths would not divide")
        super().__post_init__()

    def setup(self):
        shared = {"multipliers": tuple(self.multipliers), "strides": tuple(self.strides), "dtype": self.dtype}
        self.encoder = OobleckEncoder(self.channels, out_channels=2 * self.latent_channels, **shared)
        self.decoder = OobleckDecoder(self.decoder_channels or self.channels, out_channels=self.in_channels, **shared)
        (template,) = self.bottleneck
        self.gaussian = template.clone(parent=None, name=None)

    @property
    def downsample_factor(self) -> int:
        """Samples per frame of the latent."""
        return math.prod(self.strides)

    @property
    def overlap(self) -> int:
        """Frames of the latent on either side that one depends on when coded, and its sound when decoded."""
        units = sum(KERNEL // 2 * dilation for dilation in DILATIONS)
        # From what goes out back to what comes in, in positions at the rate at hand.
        decoder, encoder = KERNEL // 2, 1
        for stride in self.strides:
            decoder = ceil_div(decoder + units, stride) + 1
        for stride in reversed(self.strides):
            encoder = encoder * stride + stride + stride // 2 + units
        return max(decoder + KERNEL // 2, ceil_div(encoder + KERNEL // 2, self.downsample_factor))

    def encode(
        self,
        x: jax.Array,
        *,
        keys: jax.Array | None = None,
        draws: Sequence[jax.Array | None] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (latent [b, time / downsample_factor, latent_channels], info).

        Args:
            keys: one per item [b], to draw a sample; without them the latent is the mean.
            draws: one standard normal array [b, frames, latent_channels] in a tuple, instead.
            train: True in training.

        Raises:
            InputError: another number of channels, or a time that downsample_factor does not divide.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        check_multiple(x.shape[1], self.downsample_factor, "the product of the strides")
        coded = self.encoder(x) if train else self._by_blocks(self.encoder, x, self.downsample_factor, 1)
        return self.gaussian(coded, keys=keys, draws=None if draws is None else draws[0], train=train)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, latent_channels] to sound [b, frames * downsample_factor, in_channels]."""
        if latent.shape[-1] != self.latent_channels:
            raise InputError(f"the latent has {latent.shape[-1]} channels: this decoder reads {self.latent_channels}")
        return self._by_blocks(self.decoder, latent, 1, self.downsample_factor)

    def __call__(self, x: jax.Array, **random) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (the same decoded, info), in info "latent" too; arguments as of encode."""
        latent, info = self.encode(x, **random)
        sound = self.decoder(latent) if random.get("train") else self.decode(latent)
        return sound, {"latent": latent, **info}

    def _by_blocks(self, code: Callable, x: jax.Array, rows_in: int, rows_out: int) -> jax.Array:
        """``code(x)``, x [b, frames * rows_in, c] to [b, frames * rows_out, d], by blocks if it is long."""
        frames, block, margin = x.shape[1] // rows_in, self.block_frames, self.overlap
        if block is None or frames <= block + 2 * margin or self.is_initializing():
            return code(x)
        starts = np.minimum(np.arange(0, frames, block), frames - block)
        # Blocks at the ends see more of one side instead: an edge of the input must be one of the block's.
        first = np.clip(starts - margin, 0, frames - block - 2 * margin)

        def one(begin: jax.Array, skip: jax.Array) -> jax.Array:
            piece = lax.dynamic_slice_in_dim(x, begin * rows_in, (block + 2 * margin) * rows_in, axis=1)
            return lax.dynamic_slice_in_dim(code(piece), skip * rows_out, block * rows_out, axis=1)

        shape = jax.eval_shape(lambda: one(0, 0))
        whole = jnp.zeros((len(x), frames * rows_out, shape.shape[-1]), shape.dtype)

        def step(whole: jax.Array, place: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            start, begin, skip = place
            return lax.dynamic_update_slice_in_dim(whole, one(begin, skip), start * rows_out, axis=1), None

        places = tuple(jnp.asarray(a, jnp.int32) for a in (starts, first, starts - first))
        return lax.scan(step, whole, places)[0]
