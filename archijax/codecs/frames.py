"""A codec at frame rate: an STFT's frames to a latent, and a latent to frames that an inverse STFT makes sound of.

After Vocos (Siuzdak 2023): all layers work on frames, none on samples, so that a second of sound is some dozens of
positions, and the decoder says magnitude and phase of each frequency. Strides inside make several frames one latent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.audio.stft import STFT
from archijax.codecs.bottlenecks import Bottleneck, in_sequence
from archijax.codecs.levels import check_multiple
from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.linear import Linear, fold, pad_positions, unfold
from archijax.nn.norms import LayerNorm

KERNEL = 7  # frames that a block sees
COMPRESSION = 0.3  # power of the magnitudes that the encoder reads, and that phase is compared at
# Log-magnitudes that a decoder can say: those of silence and of the loudest sound, with room.
LOG_MAGNITUDES = (-14.0, 7.0)
SMALL = 1e-5  # of a magnitude: white noise at about -100 dB of full scale
# Distances of bands: at least so many bins, and this share of their frequency.
SCALES = (2.0, 0.1), (8.0, 1.0)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a net of two layers on each: [b, n, c] -> [b, n, c].

    Liu et al. 2022, with one learned factor per channel before the sum.

    Fields:
        expansion: width between the two layers, in channels.
        scale: initial value of the factors.
    """

    expansion: int = 3
    scale: float = 0.2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(0.2), (KERNEL, c)).astype(self.dtype)
        factors = self.param("factors", nn.initializers.constant(self.scale), (c,)).astype(self.dtype)
        y = depthwise(x.astype(self.dtype), kernel)
        y = LayerNorm(name="norm")(y)
        y = Linear(self.expansion * c, self.dtype, name="up")(y)
        y = Linear(c, self.dtype, name="down")(nn.gelu(y))
        return x + (factors * y).astype(x.dtype)


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of each channel by its own filter: x [b, n, c], kernel [odd, c] -> [b, n, c].

    As a sum of shifted products, which XLA makes one loop of; its own depthwise convolution is far slower on CPU.
    """
    padded = pad_positions(x, len(kernel) // 2)
    return sum(padded[:, i : i + x.shape[1]] * kernel[i] for i in range(len(kernel)))


class FrameEncoder(nn.Module):
    """Sound [b, time, c] to what a bottleneck reads, [b, time / downsample_factor, latent_channels].

    Fields:
        stft: not centred, so that there are time / hop_length frames.
        channels, num_blocks: width and blocks at each rate, the STFT's own first.
        factors: frames that become one between two rates.
        latent_channels: of the latent.
    """

    stft: STFT
    channels: Sequence[int]
    num_blocks: Sequence[int]
    factors: Sequence[int]
    latent_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
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
    """A latent [b, frames, latent_channels] to sound [b, frames * downsample_factor, out_channels].

    Fields: those of :class:`FrameEncoder`, in its order; out_channels, of the sound.
    """

    stft: STFT
    channels: Sequence[int]
    num_blocks: Sequence[int]
    factors: Sequence[int]
    out_channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
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


def compressed(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary part of z with a compressed magnitude, |z|^0.3 and the same phase; smooth at zero."""
    gain = (jnp.square(z.real) + jnp.square(z.imag) + SMALL**2) ** ((COMPRESSION - 1) / 2)
    return z.real * gain, z.imag * gain


def spectral_features(z: jax.Array) -> jax.Array:
    """Spectra [b, n, f, c] as real features [b, n, 3 * f * c]: compressed in magnitude, and its logarithm."""
    power = jnp.square(z.real) + jnp.square(z.imag) + SMALL**2
    # A tenth of the logarithm of the magnitude: as large as the others.
    features = jnp.stack([*compressed(z), 0.05 * jnp.log(power)], axis=2)
    return features.reshape(*z.shape[:2], -1)


def interpolation(frequencies: int) -> np.ndarray:
    """Linear interpolation [frequencies, bands] from bands to bins of a spectrum, about the centre of its window.

    A tone has one phase, counted from the centre of the window, in all bins that the window spreads it over. Layers of
    single bins learn that bin by bin, for high tones ten times as late as those of bands, of which there are few. Bins
    of odd number change sign, as phases here count from the window's beginning.
    """
    bins = np.arange(frequencies)
    hats = [np.ones(frequencies)]
    for least, share in SCALES:
        centres = [0.0]
        while centres[-1] < frequencies - 1:
            centres.append(centres[-1] + max(least, share * centres[-1]))
        hats += [np.interp(bins, centres, row) for row in np.eye(len(centres))]
    return (np.stack(hats, axis=1) * (-1.0) ** bins[:, None]).astype(np.float32)


def band_features(z: jax.Array) -> jax.Array:
    """Spectra [b, n, f, c] as sums of bands [b, n, 2 * bands * c], each frame brought to a mean square of 1.

    Compressed, the hundreds of quiet bins would drown the phase of a lone tone in such sums.
    """
    power = jnp.mean(jnp.square(z.real) + jnp.square(z.imag), axis=2, keepdims=True)
    gain, bands = jax.lax.rsqrt(power + SMALL**2), interpolation(z.shape[2])
    sums = [jnp.einsum("fk,bnfc->bnkc", bands, part) for part in (z.real * gain, z.imag * gain)]
    return jnp.stack(sums, axis=2).reshape(*z.shape[:2], -1)


def to_spectra(log_magnitude: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Complex spectra of a log-magnitude and the direction of a phase, which need not have length 1."""
    magnitude = jnp.exp(jnp.clip(log_magnitude - 6, *LOG_MAGNITUDES))
    gain = magnitude * jax.lax.rsqrt(jnp.square(cosine) + jnp.square(sine) + 1e-8)
    return jax.lax.complex(gain * cosine, gain * sine)


class FrameAutoEncoder(nn.Module):
    """The two around a bottleneck: sound [b, time, in_channels] to a latent and back.

    Fields, beside those of :class:`FrameEncoder`:
        in_channels: of the sound.
        encoder_blocks, decoder_blocks: the num_blocks of either.
        bottleneck: those in sequence (see :mod:`archijax.codecs.bottlenecks`).

    Raises:
        InputError: lists whose lengths do not fit each other, or a centred STFT.
    """

    stft: STFT
    channels: Sequence[int]
    factors: Sequence[int]
    encoder_blocks: Sequence[int]
    decoder_blocks: Sequence[int]
    in_channels: int
    latent_channels: int
    bottleneck: Sequence[Bottleneck] = ()
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        levels = len(self.channels)
        for name, needed in (("factors", levels - 1), ("encoder_blocks", levels), ("decoder_blocks", levels)):
            if (count := len(getattr(self, name))) != needed:
                raise InputError(f"{name} has {count} entries: {needed} are needed for {levels} channels")
        if self.stft.centred:
            raise InputError("the STFT is centred, which makes a frame too many: set centred to False")
        super().__post_init__()

    @property
    def downsample_factor(self) -> int:
        """Samples per frame of the latent."""
        return self.stft.hop_length * math.prod(self.factors)

    @property
    def overlap(self) -> int:
        """Frames of the latent on either side that one depends on when coded, and its sound when decoded."""
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
        # Copies, so that one given twice is two.
        self.bottlenecks = [template.clone(parent=None, name=None) for template in self.bottleneck]

    def encode(self, x: jax.Array, **random) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (latent [b, time / downsample_factor, latent_channels], info).

        Args:
            random: keys, draws and train, as for :func:`archijax.codecs.bottlenecks.in_sequence`, whose info this is.

        Raises:
            InputError: another number of channels, or a time that downsample_factor does not divide.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        check_multiple(x.shape[1], self.downsample_factor, "hop_length times the factors")
        return in_sequence(self.bottlenecks, self.encoder(x), **random)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, latent_channels] to sound [b, frames * downsample_factor, in_channels]."""
        if latent.shape[-1] != self.latent_channels:
            raise InputError(f"the latent has {latent.shape[-1]} channels: this decoder reads {self.latent_channels}")
        return self.decoder(latent)

    def __call__(self, x: jax.Array, **random) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (the same decoded, info), in info "latent" too."""
        latent, info = self.encode(x, **random)
        return self.decode(latent), {"latent": latent, **info}
