"""Encoders and decoders of sound and of spectrograms: what makes latents short, and sound of them again.

The networks of audio-encoders-pytorch (ArchiSound, section 4.2): resnets between strided convolutions. Sound is
[b, time, c], a latent [b, frames, channels]; patches and spectra are channels, in the original's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, to_polar
from archijax.codecs.levels import DownLevel, Levels, Patch, to_channels
from archijax.errors import InputError
from archijax.keys import stream
from archijax.nn.arrays import full
from archijax.nn.linear import Conv

# Log-magnitudes stay in this range, which keeps those of silence finite.
LOG_RANGE = (-30.0, 20.0)


def log_magnitude(magnitude: jax.Array) -> jax.Array:
    """The natural logarithm of magnitudes, not under -30; at silence its gradient is zero."""
    return jnp.log(jnp.maximum(full(magnitude), math.exp(LOG_RANGE[0])))


class Encoder1d(Levels, kw_only=True):
    """Sound [b, time, c] to a latent [b, time / downsample_factor, latent_channels].

    Fields, beside those of :class:`Levels`:
        out_channels: of the latent; None: as many as the last level has.
        bottleneck: one, or several in sequence (see :mod:`archijax.codecs.bottlenecks`).
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
        self.to_in = Patch(self.widths[0], self.patch_size, self.dtype)
        self.down = [self._level(DownLevel, i) for i in range(len(self.factors))]
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
            own = None if keys is None else stream(keys, i)
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
        return super().features(to_channels(log_magnitude(magnitude) if self.use_log else magnitude))


class MelE1d(Encoder1d, kw_only=True):
    """Encoder of mel spectrograms: sound [b, time, c] to a latent of time / (hop_length * the factors) frames.

    Fields, beside those of :class:`Encoder1d`: mel, the spectrogram.
    """

    mel: MelSpectrogram

    @property
    def downsample_factor(self) -> int:
        return self.mel.hop_length * super().downsample_factor

    def features(self, x: jax.Array) -> list[jax.Array]:
        return super().features(to_channels(self.mel.encode(full(x))))
