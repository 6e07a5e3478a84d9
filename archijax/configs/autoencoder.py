"""Configurations of autoencoders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import jax
import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.audio.stft import STFT
from archijax.codecs.autoencoders import MAE1d
from archijax.codecs.losses import WINDOWS
from archijax.configs.base import ModelConfig
from archijax.configs.bottlenecks import BottleneckConfig, TanhConfig, build_bottlenecks
from archijax.configs.coders import AdversaryConfig, CoderConfig, FrameCoderConfig
from archijax.configs.example import example_batch
from archijax.configs.nets import positive
from archijax.errors import InputError
from archijax.models import AutoEncoder, MagnitudeAutoEncoder


@dataclass(frozen=True, kw_only=True)
class _AutoEncoderConfig(ModelConfig):
    bottleneck: tuple[BottleneckConfig, ...] = (TanhConfig(),)
    """Its bottleneck, or several in sequence."""
    latent_channels: int | None = 32
    """Channels of the latent; None: those of a net's last level, without a convolution to another number."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """1 for mono, 2 for stereo."""
    length: int = 2**18
    """Samples of the sounds it is trained on, and of the parts that programs code longer ones by."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length")

    def _settings(self) -> dict[str, Any]:
        return {
            "in_channels": self.channels,
            "bottleneck": build_bottlenecks(self.bottleneck, self.latent_channels),
            "dtype": jnp.dtype(self.dtype),
        }

    def _checked(self, model: Any) -> Any:
        """The model, if its sizes fit each other."""
        if self.length % model.downsample_factor:
            multiple = model.downsample_factor
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (samples per frame of the latent): "
                f"use {ceil_div(self.length, multiple) * multiple}"
            )
        batch = example_batch(self)
        keys = jax.eval_shape(lambda: jax.random.key(0))
        variables = jax.eval_shape(model.init, keys, batch)
        for loss, _ in model.losses:
            jax.eval_shape(loss, variables, keys, batch)
        return model


@dataclass(frozen=True, kw_only=True)
class AutoEncoderConfig(_AutoEncoderConfig):
    """An autoencoder of sound."""

    coder: CoderConfig | FrameCoderConfig
    """The net: one of samples, or one of an STFT's frames."""
    waveform: float = 1.0
    """Weight of the mean absolute difference of samples."""
    relative_waveform: float = 0.0
    """Weight of that difference as a share of the sound's root mean square, which teaches phase first."""
    stft: float = 0.0
    """Weight of the multi-resolution STFT loss."""
    phase: float = 0.0
    """Weight of the difference of complex spectra of compressed magnitude."""
    mel: float = 0.0
    """Weight of the log-mel loss."""
    windows: tuple[int, ...] = WINDOWS
    """Windows of these three in samples, multiples of 4."""
    discriminator: CoderConfig | AdversaryConfig | None = None
    """A discriminator trained along, or None."""
    adversarial: float = 1.0
    """Weight of the scores that it gives."""
    feature_matching: float = 1.0
    """Weight of the difference of its features."""
    adversary_start: int = 0
    """Steps before it learns and counts."""
    balanced: bool = False
    """Bring the gradient of each error to the norm that its weight says, whatever the scale of the error."""

    def build(self) -> AutoEncoder:
        """The model.

        Raises:
            InputError: settings that do not fit each other.
        """
        net = self.coder.build(latent_channels=self.latent_channels, **self._settings())
        judge = self.discriminator
        discriminator = None if judge is None else judge.discriminator()
        return self._checked(AutoEncoder(net, self.sample_rate, discriminator=discriminator, **self._shared()))

    def _shared(self) -> dict[str, Any]:
        names = {f.name for f in fields(AutoEncoder)} & {f.name for f in fields(self)} - {
            "sample_rate",
            "discriminator",
        }
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class MagnitudeAutoEncoderConfig(_AutoEncoderConfig):
    """An autoencoder of an STFT's magnitudes; what it decodes is made sound by Griffin-Lim."""

    coder: CoderConfig
    """The net."""
    n_fft: int = 1024
    """Samples of a frame of the STFT, and of its Hann window."""
    hop_length: int = 256
    """Samples from one frame to the next."""

    def build(self) -> MagnitudeAutoEncoder:
        """The model.

        Raises:
            InputError: settings that do not fit each other.
        """
        stft = STFT(self.n_fft, self.hop_length, centred=False)
        net = MAE1d(**self.coder.settings(), bottleneck_channels=self.latent_channels, **self._settings(), stft=stft)
        return self._checked(MagnitudeAutoEncoder(net))
