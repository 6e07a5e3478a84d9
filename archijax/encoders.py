"""Encoders and decoders of sound and of spectrograms: what makes latents short, and sound of them again.

The networks of audio-encoders-pytorch (ArchiSound, section 2.5): resnets between strided convolutions. Sound is
[b, time, c], a latent [b, frames, channels]; patches and spectra are channels, in the original's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .audio.mel import MelSpectrogram
from .audio.stft import STFT, to_polar
from .errors import InputError
from .layers import Conv, Resnet, biased, full, strided_conv, transposed_conv, uniform_init

# Log-magnitudes stay in this range, which keeps those of silence finite.
LOG_RANGE = (-30.0, 20.0)


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


class _Patch(nn.Module):
    """A resnet, then every ``patch_size`` positions as channels: [b, n, c] -> [b, n / patch_size, features]."""

    features: int
    patch_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, n, c = x.shape
        _check_length(n, self.patch_size, "patch_size")
        channels = self.features // self.patch_size
        x = Resnet(min(self.patch_size, c), channels=channels, dtype=self.dtype, name="resnet")(x)
        return _joined(x.reshape(b, n // self.patch_size, self.patch_size, -1))


def _check_length(length: int, multiple: int, what: str) -> None:
    if length == 0 or length % multiple:
        fitting = multiple * max(1, -(-length // multiple))
        raise InputError(f"length {length} is not a multiple of {multiple} ({what}): pad to {fitting}")


def _joined(x: jax.Array) -> jax.Array:
    """[b, n, a, c] -> [b, n, c * a]: the originals' order of channels, which their weights are for."""
    return jnp.swapaxes(x, 2, 3).reshape(*x.shape[:2], -1)


def _split(x: jax.Array, size: int) -> jax.Array:
    """[b, n, c * a] -> [b, n, a, c] with a = size, the inverse of :func:`_joined`."""
    return jnp.swapaxes(x.reshape(*x.shape[:2], -1, size), 2, 3)


def log_magnitude(magnitude: jax.Array) -> jax.Array:
    """The natural logarithm of magnitudes, not under -30; at silence its gradient is zero."""
    return jnp.log(jnp.maximum(full(magnitude), math.exp(LOG_RANGE[0])))


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


class _Down(_Level):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.items(_Downsample(self.features, self.factor, self.dtype, name="downsample")(x))


class _Up(_Level):
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


class Encoder1d(Levels, kw_only=True):
    """Sound [b, time, c] to a latent [b, time / downsample_factor, latent_channels].

    Fields, beside those of :class:`Levels`:
        out_channels: of the latent; None: as many as the last level has.
        bottleneck: one, or several in sequence (see :mod:`archijax.bottlenecks`).
    """

    out_channels: int | None = None
    bottleneck: nn.Module | Sequence[nn.Module] = ()

    def __post_init__(self):
        if isinstance(self.bottleneck, nn.Module):
            object.__setattr__(self, "bottleneck", (self.bottleneck,))
        super().__post_init__()

    @property
    def latent_channels(self) -> int:
        return self.out_channels or self.widths[-1]

    def setup(self):
        self._check_patches(self.widths[0])
        self.to_in = _Patch(self.widths[0], self.patch_size, self.dtype)
        self.down = [self._level(_Down, i) for i in range(len(self.factors))]
        if self.out_channels is not None:
            self.to_out = Conv(self.out_channels, dtype=self.dtype)
        # Copies, so that one given twice is two.
        self.bottlenecks = [template.clone(parent=None, name=None) for template in self.bottleneck]

    def features(self, x: jax.Array) -> list[jax.Array]:
        """What every stage makes of x [b, time, c], first to last: patches, each level, and the output convolution."""
        maps = [self.to_in(x)]
        for down in self.down:
            maps.append(down(maps[-1]))
        if self.out_channels is not None:
            maps.append(self.to_out(maps[-1]))
        return maps

    def __call__(
        self,
        x: jax.Array,
        *,
        keys: jax.Array | None = None,
        draws: Sequence[jax.Array | None] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, c] to (latent [b, frames, latent_channels] in at least float32, info).

        Args:
            keys: one per item [b], for the bottlenecks that draw.
            draws: the random numbers instead, one entry for each bottleneck.
            train: as for bottlenecks.

        Returns:
            info: what the bottlenecks report, "loss" the sum of theirs; what two report is numbered, as in "codes_1".

        Raises:
            InputError: a time that patch_size does not divide. (A level rounds positions up.)
        """
        if draws is not None and len(draws) != len(self.bottlenecks):
            raise InputError(f"{len(draws)} draws for {len(self.bottlenecks)} bottlenecks: one entry each is needed")
        z, info = full(self.features(x)[-1]), {}
        loss = jnp.zeros((), z.dtype)
        for i, bottleneck in enumerate(self.bottlenecks):
            own = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            z, report = bottleneck(z, keys=own, draws=None if draws is None else draws[i], train=train)
            loss += report.pop("loss", 0.0)
            info |= {f"{name}_{i}" if name in info else name: value for name, value in report.items()}
        return z, {"loss": loss, **info}


class ME1d(Encoder1d, kw_only=True):
    """Encoder of an STFT's magnitudes: sound [b, time, c] to a latent of time / (hop_length * the factors) frames.

    Fields, beside those of :class:`Encoder1d`:
        stft: odd n_fft gives time / hop_length frames, even one more.
        use_log: the magnitudes' logarithm, not under -30.
    """

    stft: STFT
    use_log: bool = False

    @property
    def downsample_factor(self) -> int:
        return self.stft.hop_length * super().downsample_factor

    def features(self, x: jax.Array) -> list[jax.Array]:
        magnitude, _ = to_polar(self.stft.encode(full(x)))
        return super().features(_joined(log_magnitude(magnitude) if self.use_log else magnitude))


class MelE1d(Encoder1d, kw_only=True):
    """Encoder of mel spectrograms: sound [b, time, c] to a latent of time / (hop_length * the factors) frames.

    Fields, beside those of :class:`Encoder1d`: mel, the spectrogram.
    """

    mel: MelSpectrogram

    @property
    def downsample_factor(self) -> int:
        return self.mel.hop_length * super().downsample_factor

    def features(self, x: jax.Array) -> list[jax.Array]:
        return super().features(_joined(self.mel.encode(full(x))))


class Decoder1d(Levels, kw_only=True):
    """A latent [b, frames, c] to sound [b, frames * downsample_factor, out_channels].

    Fields, beside those of :class:`Levels`, whose order is the reverse of an encoder's:
        out_channels: of the sound.
        in_channels: of the latent, which a kernel-1 convolution widens; None: it has those of the first level already.
    """

    out_channels: int
    in_channels: int | None = None

    def setup(self):
        self._check_patches(self.widths[-1])
        if self.in_channels is not None:
            self.to_in = Conv(self.widths[0], dtype=self.dtype)
        self.up = [self._level(_Up, i) for i in range(len(self.factors))]
        self.to_out = Resnet(min(self.patch_size, self.out_channels), channels=self.out_channels, dtype=self.dtype)

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, c] to [b, frames * downsample_factor, out_channels], at least float32."""
        expected = self.in_channels or self.widths[0]
        if z.shape[-1] != expected:
            raise InputError(f"the latent has {z.shape[-1]} channels: this decoder reads {expected}")
        x = z if self.in_channels is None else self.to_in(z)
        for up in self.up:
            x = up(x)
        x = _split(x, self.patch_size).reshape(len(x), x.shape[1] * self.patch_size, -1)
        return full(self.to_out(x))


class AutoEncoder1d(Levels, kw_only=True):
    """An encoder and the decoder that mirrors it: sound [b, time, in_channels] to a latent and back.

    Fields, beside those of :class:`Levels`, which are in the encoder's order:
        in_channels: of the sound.
        out_channels: of what is decoded; None: in_channels.
        bottleneck: one, or several in sequence (see :mod:`archijax.bottlenecks`).
        bottleneck_channels: of the latent; None: as many as the last level has.
    """

    in_channels: int
    out_channels: int | None = None
    bottleneck: nn.Module | Sequence[nn.Module] = ()
    bottleneck_channels: int | None = None

    @property
    def latent_channels(self) -> int:
        return self.bottleneck_channels or self.widths[-1]

    def setup(self):
        shared = {name: getattr(self, name) for name in ("channels", "patch_size", "resnet_groups", "dtype")}
        levels = {name: tuple(getattr(self, name)) for name in ("multipliers", "factors", "num_blocks")}
        self.encoder = Encoder1d(**shared, **levels, out_channels=self.bottleneck_channels, bottleneck=self.bottleneck)
        self.decoder = Decoder1d(
            **shared,
            **{name: values[::-1] for name, values in levels.items()},
            in_channels=self.bottleneck_channels,
            out_channels=self._decoded_channels,
        )

    @property
    def _decoded_channels(self) -> int:
        return self.out_channels or self.in_channels

    def encode(self, x: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (latent [b, time / downsample_factor, latent_channels], info).

        Args:
            random: keys, draws and train, as for :class:`Encoder1d`, whose info this is.
        """
        if x.shape[-1] != self.in_channels:
            raise InputError(f"the input has {x.shape[-1]} channels: this autoencoder reads {self.in_channels}")
        return self.encoder(x, **random)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent [b, frames, latent_channels] to [b, frames * downsample_factor, out_channels]."""
        return self.decoder(latent)

    def __call__(self, x: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, time, in_channels] to (the same decoded, info), in info "latent" too.

        Raises:
            InputError: a time that downsample_factor does not divide, as the result would be longer.
        """
        _check_length(x.shape[1], self.downsample_factor, "patch_size times the factors")
        latent, info = self.encode(x, **random)
        return self.decode(latent), {"latent": latent, **info}


class MAE1d(AutoEncoder1d, kw_only=True):
    """Autoencoder of an STFT's magnitudes [b, frames, frequencies, in_channels], by their logarithms.

    What it decodes has no phase: a vocoder makes sound of it. Fields, beside those of :class:`AutoEncoder1d`: stft,
    whose magnitudes they are; its frames take the place of time.
    """

    stft: STFT

    @property
    def _decoded_channels(self) -> int:
        return super()._decoded_channels * self.stft.frequencies

    def encode(self, magnitude: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps magnitudes [b, frames, frequencies, in_channels] to (latent [b, frames / factors, c], info)."""
        expected = (self.stft.frequencies, self.in_channels)
        if magnitude.shape[2:] != expected:
            raise InputError(
                f"magnitudes have shape {magnitude.shape}: [batch, frames, {expected[0]}, {expected[1]}] is needed"
            )
        return self.encoder(_joined(log_magnitude(magnitude)), **random)

    def decode(self, latent: jax.Array) -> jax.Array:
        """Maps a latent to magnitudes [b, frames, frequencies, out_channels], from e^-30 to e^20."""
        return jnp.exp(jnp.clip(_split(self.decoder(latent), self.stft.frequencies), *LOG_RANGE))

    def loss(self, wave: jax.Array, **random: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean absolute difference of log-magnitudes for a sound [b, time, in_channels], and info.

        A bottleneck's own loss is not added: it is info["loss"].
        """
        magnitude, _ = to_polar(self.stft.encode(full(wave)))
        prediction, info = self(magnitude, **random)
        return jnp.mean(jnp.abs(log_magnitude(prediction) - log_magnitude(magnitude))), info
