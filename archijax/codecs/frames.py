"""Defines an autoencoder whose layers work on STFT frames, between an STFT and an inverse STFT.

As in Vocos (Siuzdak 2023), all layers work on frames instead of samples, so a second of sound has only some dozens of
positions. The decoder predicts the magnitude and the phase of each frequency. The encoder lowers the frame rate in
steps: strided convolutions join neighbouring frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float, Float32

from archijax.arithmetic import ceil_div
from archijax.audio.stft import STFT
from archijax.codecs.bottlenecks import Bottleneck, Info, in_sequence
from archijax.codecs.levels import check_multiple
from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.linear import Linear, depthwise, fold, pad_positions, unfold
from archijax.nn.norms import LayerNorm

KERNEL = 7  # frames in the kernel of a block
COMPRESSION = 0.3  # the encoder reads magnitudes to this power
# The range of log-magnitudes that a decoder can predict. It includes silence and the loudest sound.
LOG_MAGNITUDES = (-14.0, 7.0)
SMALL = 1e-5  # magnitude of white noise at about -100 dB of full scale
# Two sets of bands of a spectrum. The distance of neighbouring centres in bins is the larger of the first number and
# the second number times the lower centre.
SCALES = (2.0, 0.1), (8.0, 1.0)


class ConvNeXtBlock(nn.Module):
    """A residual block: a depthwise convolution over frames, then two dense layers on each frame.

    As in Liu et al. 2022, each channel of the dense output is multiplied by a learned factor, and added to the input of
    the block. ``block.apply(block.init(key, x), x)`` returns an array with the shape of x [b, n, c].

    Fields:
        expansion: the number of features between the two dense layers, as a multiple of the number of channels.
        scale: the initial value of the learned factors.
        dtype: the type of the computation.
    """

    expansion: int = 3
    scale: float = 0.2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        c = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(0.2), (KERNEL, c)).astype(self.dtype)
        factors = self.param("factors", nn.initializers.constant(self.scale), (c,)).astype(self.dtype)
        y = depthwise(pad_positions(x.astype(self.dtype), KERNEL // 2), kernel)
        y = LayerNorm(name="norm")(y)
        y = Linear(self.expansion * c, self.dtype, name="up")(y)
        y = Linear(c, self.dtype, name="down")(nn.gelu(y))
        return x + (factors * y).astype(x.dtype)


class FrameEncoder(nn.Module):
    """Encodes sound to the input of a bottleneck.

    ``FrameEncoder(STFT(1024, 256, centred=False), (256, 384), num_blocks=(4, 4), factors=(4,), latent_channels=32)``
    encodes sound [b, time, c] to [b, time / 1024, 32]: ``y = encoder.apply(encoder.init(key, x), x)``. The length of
    the sound must be a multiple of ``hop_length * prod(factors)``.

    Fields:
        stft: an STFT that is not centred. It gives ``time / hop_length`` frames.
        channels: the number of channels of the blocks at each frame rate. The first frame rate is that of the STFT.
        num_blocks: the number of blocks at each frame rate.
        factors: for each frame rate except the last, the number of frames that are joined to one frame of the next
            rate.
        latent_channels: the number of channels of the result.
        dtype: the type of the computation.
    """

    stft: STFT
    channels: Sequence[int]
    num_blocks: Sequence[int]
    factors: Sequence[int]
    latent_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b time c"]) -> Float[Array, "b frames {self.latent_channels}"]:
        spectra = self.stft.encode(full(x))
        y = Linear(self.channels[0], self.dtype, name="to_in")(spectral_features(spectra))
        y = y + Linear(self.channels[0], self.dtype, name="bands_in")(band_features(spectra))
        y = LayerNorm(name="norm_in")(y)
        for level, (width, count) in enumerate(zip(self.channels, self.num_blocks, strict=True)):
            if level:
                y = Linear(width, self.dtype, name=f"down_{level}")(fold(y, self.factors[level - 1]))
            for i in range(count):
                y = ConvNeXtBlock(dtype=self.dtype, name=f"blocks_{level}_{i}")(y)
        return full(Linear(self.latent_channels, self.dtype, name="to_out")(LayerNorm(name="norm_out")(y)))


class FrameDecoder(nn.Module):
    """Decodes a latent to sound.

    ``FrameDecoder(STFT(1024, 256, centred=False), (256, 384), num_blocks=(4, 4), factors=(4,), out_channels=1)``
    decodes a latent z [b, frames, d] to sound [b, 1024 * frames, 1]: ``sound = decoder.apply(decoder.init(key, z),
    z)``. The lists run from sound to latent, as in :class:`FrameEncoder`.

    Fields:
        stft: an STFT that is not centred, with hop_length samples per STFT frame.
        channels: the number of channels of the blocks at each frame rate. The first frame rate is that of the STFT.
        num_blocks: the number of blocks at each frame rate.
        factors: for each frame rate except the last, the number of frames that are decoded from one frame of the next
            rate.
        out_channels: the number of channels of the sound.
        dtype: the type of the computation.
    """

    stft: STFT
    channels: Sequence[int]
    num_blocks: Sequence[int]
    factors: Sequence[int]
    out_channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b frames d"]) -> Float[Array, "b time {self.out_channels}"]:
        y = LayerNorm(name="norm_in")(Linear(self.channels[-1], self.dtype, name="to_in")(z))
        for level in reversed(range(len(self.channels))):
            for i in range(self.num_blocks[level]):
                y = ConvNeXtBlock(dtype=self.dtype, name=f"blocks_{level}_{i}")(y)
            if level:
                factor = self.factors[level - 1]
                y = unfold(Linear(factor * self.channels[level - 1], self.dtype, name=f"up_{level}")(y), factor)
        count = 3 * self.stft.frequencies * self.out_channels
        y = LayerNorm(name="norm_out")(y)
        bands = interpolation(self.stft.frequencies)
        phases = full(Linear(2 * bands.shape[1] * self.out_channels, self.dtype, name="bands_out")(y))
        phases = phases.reshape(*y.shape[:2], 2, bands.shape[1], self.out_channels)
        cosine, sine = jnp.moveaxis(jnp.einsum("fk,bnpkc->bnpfc", bands, phases), 2, 0)
        y = full(Linear(count, self.dtype, name="to_out")(y))
        y = y.reshape(*y.shape[:2], 3, self.stft.frequencies, self.out_channels)
        spectra = to_spectra(y[:, :, 0], y[:, :, 1] + cosine, y[:, :, 2] + sine)
        return self.stft.decode(spectra, y.shape[1] * self.stft.hop_length)


def compressed(z: Complex[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Returns the real and the imaginary parts of numbers that have the magnitude |z|^0.3 and the phase of z.

    If |z| is not far above 1e-5, the magnitude is only approximate.
    """
    gain = (jnp.square(z.real) + jnp.square(z.imag) + SMALL**2) ** ((COMPRESSION - 1) / 2)
    return z.real * gain, z.imag * gain


def spectral_features(z: Complex[Array, "b n f c"]) -> Float[Array, "b n 3*f*c"]:
    """Turns spectra into real features [b, n, 3 * f * c].

    The features are the real parts and the imaginary parts of the compressed spectra, and the log-magnitudes.
    """
    power = jnp.square(z.real) + jnp.square(z.imag) + SMALL**2
    # A tenth of the log-magnitude (half of log(power)) is about as large as the other features.
    features = jnp.stack([*compressed(z), 0.05 * jnp.log(power)], axis=2)
    return features.reshape(*z.shape[:2], -1)


def interpolation(frequencies: int) -> Float32[np.ndarray, "{frequencies} bands"]:
    """Returns a matrix that interpolates linearly from bands to spectrum bins. For 513 bins there are 55 bands.

    If phases refer to the centre of the window, all bins of a tone's peak have the same phase. A layer that predicts
    bins must learn this for every bin. A layer that predicts the few bands learns high tones in a tenth of that time.
    In this autoencoder, phases refer to the beginning of the window, so the matrix rows of odd bins are negative.
    """
    bins = np.arange(frequencies)
    columns = [np.ones(frequencies)]
    for least, share in SCALES:
        centres = [0.0]
        while centres[-1] < frequencies - 1:
            centres.append(centres[-1] + max(least, share * centres[-1]))
        columns += [np.interp(bins, centres, row) for row in np.eye(len(centres))]
    return (np.stack(columns, axis=1) * (-1.0) ** bins[:, None]).astype(np.float32)


def band_features(z: Complex[Array, "b n f c"]) -> Float[Array, "b n features"]:
    """Returns the sums of spectra over bands, as real and imaginary parts [b, n, 2 * bands * c].

    Each frame is scaled to a mean square of 1. The spectra are not compressed, because hundreds of quiet bins would
    then hide the phase of a single tone.
    """
    power = jnp.mean(jnp.square(z.real) + jnp.square(z.imag), axis=2, keepdims=True)
    gain, bands = jax.lax.rsqrt(power + SMALL**2), interpolation(z.shape[2])
    sums = [jnp.einsum("fk,bnfc->bnkc", bands, part) for part in (z.real * gain, z.imag * gain)]
    return jnp.stack(sums, axis=2).reshape(*z.shape[:2], -1)


def to_spectra(
    log_magnitude: Float[Array, "*shape"], cosine: Float[Array, "*shape"], sine: Float[Array, "*shape"]
) -> Complex[Array, "*shape"]:
    """Turns log-magnitudes and phases into complex spectra.

    Args:
        log_magnitude: natural logarithms of magnitudes, plus 6. The logarithms are clipped to LOG_MAGNITUDES.
        cosine, sine: numbers proportional to the cosine and the sine of the phase. The positive factor has no effect.
    """
    magnitude = jnp.exp(jnp.clip(log_magnitude - 6, *LOG_MAGNITUDES))
    gain = magnitude * jax.lax.rsqrt(jnp.square(cosine) + jnp.square(sine) + 1e-8)
    return jax.lax.complex(gain * cosine, gain * sine)


class FrameAutoEncoder(nn.Module):
    """Encodes sound by a :class:`FrameEncoder` and bottlenecks, and decodes latents by a :class:`FrameDecoder`.

        net = FrameAutoEncoder(
            STFT(1024, 256, centred=False), channels=(256, 384), factors=(4,), encoder_blocks=(4, 4),
            decoder_blocks=(4, 4), in_channels=1, latent_channels=32, bottleneck=(TanhBottleneck(),)
        )
        variables = net.init(key, audio)
        latent, info = net.apply(variables, audio, method="encode")
        decoded = net.apply(variables, latent, method="decode")

    This net encodes mono sound [b, 1024 * n, 1] to a latent [b, n, 32].

    Fields:
        stft: an STFT that is not centred, such as ``STFT(1024, 256, centred=False)``.
        channels: the number of channels of the blocks at each frame rate, such as (256, 384). The first frame rate is
            that of the STFT.
        factors: for each frame rate except the last, the number of frames that are joined to one frame of the next
            rate, such as (4,).
        encoder_blocks, decoder_blocks: the number of blocks at each frame rate, in the encoder and in the decoder. Both
            lists have as many entries as ``channels``, in the same order.
        in_channels: the number of channels of the sound.
        latent_channels: the number of channels of the latent.
        bottleneck: a tuple of bottlenecks in sequence, such as ``(TanhBottleneck(),)``.
        dtype: the type of the computation.

    Raises:
        InputError: the lengths of the lists do not fit each other, or the STFT is centred.
    """

    stft: STFT
    channels: Sequence[int]
    factors: Sequence[int]
    encoder_blocks: Sequence[int]
    decoder_blocks: Sequence[int]
    in_channels: int
    latent_channels: int
    bottleneck: Sequence[Bottleneck] = ()
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        levels = len(self.channels)
        for name, needed in (("factors", levels - 1), ("encoder_blocks", levels), ("decoder_blocks", levels)):
            if (count := len(getattr(self, name))) != needed:
                raise InputError(f"{name} has {count} entries: {needed} are needed for {levels} channels")
        if self.stft.centred:
            raise InputError("the STFT is centred, which adds a frame: set centred to False")
        super().__post_init__()

    @property
    def downsample_factor(self) -> int:
        """Returns the number of samples per frame of the latent."""
        return self.stft.hop_length * math.prod(self.factors)

    @property
    def overlap(self) -> int:
        """Returns how many frames on each side of a frame influence its latent or its sound."""
        reach = {}
        for name, blocks in (("encoder", self.encoder_blocks), ("decoder", self.decoder_blocks)):
            samples, rate = self.stft.n_fft - self.stft.hop_length // 2, self.stft.hop_length
            for count, factor in zip(blocks, (*self.factors, 1), strict=True):
                samples += rate * (count * (KERNEL // 2) + factor - 1)
                rate *= factor
            reach[name] = ceil_div(samples, self.downsample_factor)
        return max(reach.values())

    def setup(self):
        shared = {"stft": self.stft, "channels": tuple(self.channels), "factors": tuple(self.factors)}
        blocks = tuple(self.encoder_blocks), tuple(self.decoder_blocks)
        self.encoder = FrameEncoder(
            **shared, num_blocks=blocks[0], latent_channels=self.latent_channels, dtype=self.dtype
        )
        self.decoder = FrameDecoder(**shared, num_blocks=blocks[1], out_channels=self.in_channels, dtype=self.dtype)
        # Copies have parameters of their own, even if a bottleneck is in the sequence twice.
        self.bottlenecks = [template.clone(parent=None, name=None) for template in self.bottleneck]

    def encode(self, x: Float[Array, "b time c"], **random) -> tuple[Float[Array, "b frames d"], Info]:
        """Encodes a sound to (latent, info). The latent has ``time / downsample_factor`` frames. The info is a dict
        with the scalar "loss" and the entries of the bottlenecks.

        Args:
            random: the optional arguments ``keys``, ``draws`` and ``train`` of
                :func:`archijax.codecs.bottlenecks.in_sequence`, such as ``keys=jax.random.split(key, b)``.

        Raises:
            InputError: the number of channels is wrong, or time is not a multiple of downsample_factor.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        check_multiple(x.shape[1], self.downsample_factor, "hop_length times the factors")
        return in_sequence(self.bottlenecks, self.encoder(x), **random)

    def decode(self, latent: Float[Array, "b frames d"]) -> Float[Array, "b time {self.in_channels}"]:
        """Decodes a latent to a sound of ``frames * downsample_factor`` samples.

        Raises:
            InputError: the number of channels of the latent is wrong.
        """
        if latent.shape[-1] != self.latent_channels:
            raise InputError(f"the latent has {latent.shape[-1]} channels: this decoder reads {self.latent_channels}")
        return self.decoder(latent)

    def __call__(self, x: Float[Array, "b time c"], **random) -> tuple[Float[Array, "b time c"], Info]:
        """Encodes and decodes x, and returns (decoded, info). The dict info is that of :meth:`encode`, plus the entry
        "latent"."""
        latent, info = self.encode(x, **random)
        return self.decode(latent), {"latent": latent, **info}
