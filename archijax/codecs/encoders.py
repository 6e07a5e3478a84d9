"""Defines encoders of sound, STFT magnitudes and mel spectrograms.

The encoders follow audio-encoders-pytorch (ArchiSound, section 4.2), with residual blocks between strided convolutions.
The samples of a patch and the frequencies of a spectrum become channels, in the same order as in the original code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, to_polar
from archijax.codecs.bottlenecks import Draws, Info, Keys, in_sequence
from archijax.codecs.levels import DownLevel, Levels, Patch, to_channels
from archijax.nn.arrays import full
from archijax.nn.linear import Conv

# The range of log-magnitudes. The lower bound keeps the log-magnitudes of silence finite.
LOG_RANGE = (-30.0, 20.0)


def log_magnitude(magnitude: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the natural logarithm of magnitudes, clipped to at least -30. At silence, the gradient is zero."""
    return jnp.log(jnp.maximum(full(magnitude), math.exp(LOG_RANGE[0])))


class Encoder1d(Levels, kw_only=True):
    """Encodes sound to a latent. downsample_factor samples become one frame of the latent.

    ``encoder = Encoder1d(channels=32, multipliers=(1, 2, 4), factors=(4, 4), num_blocks=(2, 2))`` encodes sound
    [b, time, c] to a latent [b, time / 16, 128]: ``latent, info = encoder.apply(encoder.init(key, x), x)``. Lists run
    from sound to latent. ``multipliers`` has one entry more than ``factors`` and ``num_blocks``. Level i has
    ``num_blocks[i]`` residual blocks, and maps ``channels * multipliers[i]`` channels to
    ``channels * multipliers[i + 1]`` channels. downsample_factor is patch_size times the product of the factors.
    resnet_groups, by default 8, must divide the number of channels of every level.

    Fields, in addition to the fields of :class:`archijax.codecs.levels.Levels`:
        out_channels: the number of channels of the latent; None: the number of channels after the last level.
        bottleneck: a bottleneck, such as ``TanhBottleneck()``, or a sequence of bottlenecks; empty: no bottleneck.
    """

    out_channels: int | None = None
    bottleneck: nn.Module | Sequence[nn.Module] = ()

    def __post_init__(self):
        if isinstance(self.bottleneck, nn.Module):
            object.__setattr__(self, "bottleneck", (self.bottleneck,))
        super().__post_init__()

    @property
    def latent_channels(self) -> int:
        """Returns the number of channels of the latent."""
        return self.out_channels or self.widths[-1]

    def setup(self):
        self._check_patches(self.widths[0])
        self.to_in = Patch(self.widths[0], self.patch_size, self.dtype)
        self.down = [self._level(DownLevel, i) for i in range(len(self.factors))]
        if self.out_channels is not None:
            self.to_out = Conv(self.out_channels, dtype=self.dtype)
        # Copies have parameters of their own, even if a bottleneck is in the sequence twice.
        self.bottlenecks = [template.clone(parent=None, name=None) for template in self.bottleneck]

    def features(self, x: Float[Array, "b time c"]) -> list[Float[Array, "b _ _"]]:
        """Returns a list of the outputs [b, n, channels] of the patch layer, of each level, and of the last convolution
        if ``out_channels`` is set. Call ``encoder.apply(variables, x, method="features")``."""
        maps = [self.to_in(x)]
        for down in self.down:
            maps.append(down(maps[-1]))
        if self.out_channels is not None:
            maps.append(self.to_out(maps[-1]))
        return maps

    def __call__(
        self,
        x: Float[Array, "b time c"],
        *,
        keys: Keys = None,
        draws: Sequence[Draws] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b frames {self.latent_channels}"], Info]:
        """Encodes x to (latent, info). The latent is in at least float32.

        Each level divides the length by its factor, rounded up. The latent thus has ``ceil(time / downsample_factor)``
        frames.

        Args:
            keys: one JAX key per item, for random bottlenecks.
            draws: for each bottleneck the result of its method ``draw(keys, shape)``, as an alternative to ``keys``.
            train: whether the call is for training.

        Returns:
            (latent, info). The info is a dict with the scalar "loss" and the entries of the bottlenecks; see
            :func:`archijax.codecs.bottlenecks.in_sequence`.

        Raises:
            InputError: time is not a multiple of patch_size, or a bottleneck raises InputError.
        """
        return in_sequence(self.bottlenecks, full(self.features(x)[-1]), keys=keys, draws=draws, train=train)


class ME1d(Encoder1d, kw_only=True):
    """Encodes the STFT magnitudes of sound to a latent. downsample_factor samples become one frame of the latent.

    ``ME1d(stft=STFT(1024, 256, centred=False), channels=32, multipliers=(1, 2), factors=(2,), num_blocks=(2,))`` is
    called as :class:`Encoder1d` is, with sound [b, time, c], and returns (latent [b, time / 512, 64], info).

    Fields, in addition to the fields of :class:`Encoder1d`:
        stft: the transform from sound to spectra. The number of STFT frames must be a multiple of patch_size. The
            simplest choice is ``centred=False``, which gives ``time / hop_length`` frames. A centred STFT with an even
            n_fft gives ``time / hop_length + 1`` frames.
        use_log: whether to encode log-magnitudes (clipped to at least -30) in place of magnitudes.
    """

    stft: STFT
    use_log: bool = False

    @property
    def downsample_factor(self) -> int:
        """Returns the number of samples of sound per frame of the latent."""
        return self.stft.hop_length * super().downsample_factor

    def features(self, x: Float[Array, "b time c"]) -> list[Float[Array, "b _ _"]]:
        magnitude, _ = to_polar(self.stft.encode(full(x)))
        return super().features(to_channels(log_magnitude(magnitude) if self.use_log else magnitude))


class MelE1d(Encoder1d, kw_only=True):
    """Encodes the mel spectrogram of sound to a latent. downsample_factor samples become one frame of the latent.

    ``MelE1d(mel=MelSpectrogram(n_fft=1024, hop_length=256), channels=32, multipliers=(1, 2), factors=(2,),
    num_blocks=(2,))`` is called as :class:`Encoder1d` is, with sound [b, time, c], and returns (latent
    [b, time // 512, 64], info).

    Fields, in addition to the fields of :class:`Encoder1d`:
        mel: the transform from sound to a mel spectrogram. The number of mel frames must be a multiple of patch_size.
    """

    mel: MelSpectrogram

    @property
    def downsample_factor(self) -> int:
        """Returns the number of samples of sound per frame of the latent."""
        return self.mel.hop_length * super().downsample_factor

    def features(self, x: Float[Array, "b time c"]) -> list[Float[Array, "b _ _"]]:
        return super().features(to_channels(self.mel.encode(full(x))))
