"""Defines Oobleck, the autoencoder of Stable Audio (Evans et al. 2024).

Oobleck has convolutions on samples and a Gaussian latent. Like the Descript audio codec (Kumar et al. 2023), it has
residual units of growing dilation, snake activations, and strided convolutions that change the frame rate. The kernels
of the originals have weight norm. When weights are loaded, these kernels are converted to plain kernels.
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
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from archijax.arithmetic import ceil_div
from archijax.codecs.bottlenecks import Bottleneck, Draws, Info, Keys
from archijax.codecs.levels import check_multiple
from archijax.errors import InputError
from archijax.nn.arrays import biased, full, halves
from archijax.nn.linear import pad_positions, strided_conv, transposed_conv, uniform_init
from archijax.nn.snake import Snake

DILATIONS = (1, 3, 9)  # dilations of the residual units at each rate
KERNEL = 7  # taps of the dilated convolutions, and of the convolutions next to the sound


class DilatedConv(nn.Module):
    """Applies a dilated convolution that keeps the number of positions.

    ``conv.apply(conv.init(key, x), x)`` turns x [b, n, c] into [b, n, features].

    Fields:
        features: the number of output channels.
        kernel_size: the number of taps, an odd number.
        dilation: the number of positions from one tap to the next tap.
        bias: whether there is a bias.
        dtype: the type of the computation.
    """

    features: int
    kernel_size: int = KERNEL
    dilation: int = 1
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n {self.features}"]:
        init = uniform_init(self.kernel_size * x.shape[-1])
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1], self.features)).astype(self.dtype)
        x = pad_positions(x.astype(self.dtype), self.dilation * (self.kernel_size // 2))
        numbers = ("NHC", "HIO", "NHC")
        y = lax.conv_general_dilated(
            x, kernel, (1,), "VALID", rhs_dilation=(self.dilation,), dimension_numbers=numbers
        )  # fmt: skip
        return biased(y, self.param("bias", init, (self.features,))) if self.bias else y


class StridedConv(nn.Module):
    """Applies a convolution with kernel size ``2 * stride``.

    ``conv.apply(conv.init(key, x), x)`` turns x [b, n, c] into [b, n / stride, features], where n is a multiple of
    stride. If ``transposed`` is True, the result is [b, n * stride, features].

    Fields:
        features: the number of output channels.
        stride: an even number.
        transposed: whether to apply a transposed convolution, which multiplies the length by the stride.
        dtype: the type of the computation.
    """

    features: int
    stride: int
    transposed: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b m {self.features}"]:
        fan_in = 2 * self.stride * (self.features if self.transposed else x.shape[-1])
        init = uniform_init(fan_in)
        kernel = self.param("kernel", init, (2 * self.stride, x.shape[-1], self.features)).astype(self.dtype)
        bias, x, margin = self.param("bias", init, (self.features,)), x.astype(self.dtype), self.stride // 2
        if self.transposed:
            return biased(transposed_conv(x, kernel, self.stride, margin), bias)
        return biased(strided_conv(pad_positions(x, margin), kernel, self.stride), bias)


class ResidualUnit(nn.Module):
    """A residual block: snake, dilated convolution, snake, convolution with kernel size 1.

    ``unit.apply(unit.init(key, x), x)`` returns an array with the shape of x [b, n, c].

    Fields:
        dilation: the dilation of the first convolution.
        dtype: the type of the computation.
    """

    dilation: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        c = x.shape[-1]
        y = DilatedConv(c, dilation=self.dilation, dtype=self.dtype, name="conv")(Snake(name="snake")(x))
        y = DilatedConv(c, kernel_size=1, dtype=self.dtype, name="mix")(Snake(name="snake_mix")(y))
        return x.astype(y.dtype) + y


class SoftplusBottleneck(Bottleneck):
    """Predicts a Gaussian for each value of the latent, which has half as many channels as the input.

    ``latent, info = SoftplusBottleneck()(x)`` turns x [b, n, 2 * d] into a latent [b, n, d]. The first half of the
    input channels are means, and the second half are scales. The standard deviation is ``softplus(scale) + 1e-4``. If
    ``keys`` or ``draws`` are given, the latent is a sample. Otherwise, the latent is the mean. ``info`` has "mean" and
    "deviation" [b, n, d], and the scalars "kl" and "loss". "kl" is twice the KL divergence from a standard Gaussian,
    averaged over all values.

    Fields:
        loss_weight: the weight of "kl" in "loss".
    """

    loss_weight: float = 1e-4

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Float[Array, "b n c"]:
        return jax.vmap(lambda key: jax.random.normal(key, (shape[0], shape[1] // 2)))(keys)

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c//2"], Info]:
        mean, scale = halves(full(x))
        deviation = jax.nn.softplus(scale) + 1e-4
        eps = self._draws(x, keys, draws, train)
        kl = jnp.mean(jnp.square(mean) + jnp.square(deviation) - 2 * jnp.log(deviation) - 1)
        info = {"loss": self.loss_weight * kl, "kl": kl, "mean": mean, "deviation": deviation}
        return (mean if eps is None else mean + deviation * eps), info


class OobleckEncoder(nn.Module):
    """Encodes sound. The length of the sound must be a multiple of the product of the strides.

    ``OobleckEncoder(32, multipliers=(1, 2), strides=(2, 4), out_channels=16)`` encodes sound [b, time, c] to
    [b, time / 8, 16]: ``y = encoder.apply(encoder.init(key, x), x)``.

    Fields:
        channels: the number of channels before the first downsampling.
        multipliers: one entry per stride. The strided convolution has ``channels * multiplier`` output channels.
        strides: even numbers, from sound to latent.
        out_channels: the number of channels of the result.
        dtype: the type of the computation.
    """

    channels: int
    multipliers: Sequence[int]
    strides: Sequence[int]
    out_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Float[Array, "b frames {self.out_channels}"]:
        x = DilatedConv(self.channels, dtype=self.dtype, name="to_in")(x)
        for i, (multiplier, stride) in enumerate(zip(self.multipliers, self.strides, strict=True)):
            for j, dilation in enumerate(DILATIONS):
                x = ResidualUnit(dilation, self.dtype, name=f"down_{i}_unit_{j}")(x)
            x = Snake(name=f"down_{i}_snake")(x)
            x = StridedConv(self.channels * multiplier, stride, dtype=self.dtype, name=f"down_{i}")(x)
        x = Snake(name="snake")(x)
        return full(DilatedConv(self.out_channels, kernel_size=3, dtype=self.dtype, name="to_out")(x))


class OobleckDecoder(nn.Module):
    """Decodes a latent to sound.

    ``OobleckDecoder(32, multipliers=(1, 2), strides=(2, 4), out_channels=1)`` decodes a latent z [b, frames, d] to
    sound [b, 8 * frames, 1]: ``sound = decoder.apply(decoder.init(key, z), z)``.

    Fields:
        channels: the number of channels after the last upsampling.
        multipliers, strides: lists of the same length, from sound to latent, as in :class:`OobleckEncoder`.
        out_channels: the number of channels of the sound.
        dtype: the type of the computation.
    """

    channels: int
    multipliers: Sequence[int]
    strides: Sequence[int]
    out_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b frames d"]) -> Float[Array, "b time {self.out_channels}"]:
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
    """Encodes sound by an :class:`OobleckEncoder` and a bottleneck, and decodes latents by an :class:`OobleckDecoder`.

    ``net = Oobleck(in_channels=1, latent_channels=8, channels=16, multipliers=(1, 2), strides=(2, 4))`` encodes mono
    sound [b, 8 * n, 1] to a latent [b, n, 8]. Call ``variables = net.init(key, audio)``, ``latent, info =
    net.apply(variables, audio, method="encode")`` and ``net.apply(variables, latent, method="decode")``.

    Fields:
        in_channels: the number of channels of the sound.
        latent_channels: the number of channels of the latent.
        channels: the number of channels of the encoder before the first downsampling.
        decoder_channels: the number of channels of the decoder after the last upsampling; None: ``channels``.
        multipliers, strides: lists of the same length, from sound to latent, as in :class:`OobleckEncoder`.
        bottleneck: a tuple of one bottleneck, which maps ``2 * latent_channels`` channels to ``latent_channels``
            channels.
        block_frames: the number of frames of a block; None: no blocks. Longer sounds and latents are coded block by
            block, in constant memory. Blocks overlap by ``overlap`` frames on each side, so the result is the same as
            without blocks.
        dtype: the type of the computation.

    Raises:
        InputError: multipliers and strides have different lengths, or a stride is odd.
    """

    in_channels: int
    latent_channels: int
    channels: int = 128
    decoder_channels: int | None = None
    multipliers: Sequence[int] = (1, 2, 4, 8, 16)
    strides: Sequence[int] = (2, 4, 4, 8, 8)
    bottleneck: Sequence[Bottleneck] = dataclasses.field(default_factory=lambda: (SoftplusBottleneck(),))
    block_frames: int | None = 128
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        if len(self.multipliers) != len(self.strides):
            raise InputError(
                f"multipliers has {len(self.multipliers)} entries and strides has {len(self.strides)}: "
                "both need the same number"
            )
        if odd := [stride for stride in self.strides if stride < 2 or stride % 2]:
            raise InputError(f"the stride {odd[0]} is not an even number: all strides must be even and at least 2")
        super().__post_init__()

    def setup(self):
        shared = {"multipliers": tuple(self.multipliers), "strides": tuple(self.strides), "dtype": self.dtype}
        self.encoder = OobleckEncoder(self.channels, out_channels=2 * self.latent_channels, **shared)
        self.decoder = OobleckDecoder(self.decoder_channels or self.channels, out_channels=self.in_channels, **shared)
        (template,) = self.bottleneck
        self.gaussian = template.clone(parent=None, name=None)

    @property
    def downsample_factor(self) -> int:
        """Returns the number of samples per frame of the latent."""
        return math.prod(self.strides)

    @property
    def overlap(self) -> int:
        """Returns how many frames on each side of a frame influence its latent or its sound."""
        units = sum(KERNEL // 2 * dilation for dilation in DILATIONS)
        # The receptive field grows from the output back to the input, counted in positions of the current rate.
        decoder, encoder = KERNEL // 2, 1
        for stride in self.strides:
            decoder = ceil_div(decoder + units, stride) + 1
        for stride in reversed(self.strides):
            encoder = encoder * stride + stride + stride // 2 + units
        return max(decoder + KERNEL // 2, ceil_div(encoder + KERNEL // 2, self.downsample_factor))

    def encode(
        self,
        x: Float[Array, "b time c"],
        *,
        keys: Keys = None,
        draws: Sequence[Draws] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b frames d"], Info]:
        """Encodes a sound to (latent, info). The latent has ``time / downsample_factor`` frames. The bottleneck returns
        the info.

        Args:
            keys: one JAX key per item, to draw the latent from the Gaussian. Without ``keys`` and ``draws``, the latent
                is the mean.
            draws: a sequence of one array, the standard normal noise [b, frames, d], as an alternative to ``keys``.
            train: whether the call is for training, which needs ``keys`` or ``draws``.

        Raises:
            InputError: the number of channels is wrong, or time is not a multiple of downsample_factor.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        check_multiple(x.shape[1], self.downsample_factor, "the product of the strides")
        coded = self.encoder(x) if train else self._by_blocks(self.encoder, x, self.downsample_factor, 1)
        return self.gaussian(coded, keys=keys, draws=None if draws is None else draws[0], train=train)

    def decode(self, latent: Float[Array, "b frames d"]) -> Float[Array, "b time {self.in_channels}"]:
        """Decodes a latent to a sound of ``frames * downsample_factor`` samples.

        Raises:
            InputError: the number of channels of the latent is wrong.
        """
        if latent.shape[-1] != self.latent_channels:
            raise InputError(f"the latent has {latent.shape[-1]} channels: this decoder reads {self.latent_channels}")
        return self._by_blocks(self.decoder, latent, 1, self.downsample_factor)

    def __call__(self, x: Float[Array, "b time c"], **random) -> tuple[Float[Array, "b time c"], Info]:
        """Encodes and decodes x, and returns (decoded, info). The dict info is that of :meth:`encode`, plus the entry
        "latent".

        :meth:`encode` explains the arguments and errors.
        """
        latent, info = self.encode(x, **random)
        sound = self.decoder(latent) if random.get("train") else self.decode(latent)
        return sound, {"latent": latent, **info}

    def _by_blocks(
        self, code: Callable, x: Float[Array, "b n c"], rows_in: int, rows_out: int
    ) -> Float[Array, "b n//{rows_in}*{rows_out} d"]:
        """Returns ``code(x)``, computed in blocks if x is long.

        Args:
            code: the function. A frame has rows_in positions in the input, and rows_out positions in the output.
        """
        frames, block, margin = x.shape[1] // rows_in, self.block_frames, self.overlap
        if block is None or frames <= block + 2 * margin or self.is_initializing():
            return code(x)
        starts = np.minimum(np.arange(0, frames, block), frames - block)
        # All blocks have the same size. At an end of the input, a block has all of its margin on the inner side, so
        # that the block and the input have the same edge.
        first = np.clip(starts - margin, 0, frames - block - 2 * margin)

        def code_block(begin: Int[Array, ""], skip: Int[Array, ""]) -> Float[Array, "b m d"]:
            piece = lax.dynamic_slice_in_dim(x, begin * rows_in, (block + 2 * margin) * rows_in, axis=1)
            return lax.dynamic_slice_in_dim(code(piece), skip * rows_out, block * rows_out, axis=1)

        shape = jax.eval_shape(lambda: code_block(jnp.int32(0), jnp.int32(0)))
        result = jnp.zeros((len(x), frames * rows_out, shape.shape[-1]), shape.dtype)

        def step(
            result: Float[Array, "b m d"], indices: tuple[Int[Array, ""], ...]
        ) -> tuple[Float[Array, "b m d"], None]:
            start, begin, skip = indices
            return lax.dynamic_update_slice_in_dim(result, code_block(begin, skip), start * rows_out, axis=1), None

        indices = tuple(jnp.asarray(a, jnp.int32) for a in (starts, first, starts - first))
        return lax.scan(step, result, indices)[0]
