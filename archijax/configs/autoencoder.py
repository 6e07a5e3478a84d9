"""Contains the configurations of autoencoders."""

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

# The representations of configurations whose parts fit each other. The check takes seconds, and programs build a model
# more than once.
_FITTING: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class _AutoEncoderConfig(ModelConfig):
    bottleneck: tuple[BottleneckConfig, ...] = (TanhConfig(),)
    """The bottlenecks in the order of their use, such as (TanhConfig(), QuantizerConfig(num_codes=16))."""
    latent_channels: int | None = 32
    """The number of channels of the latent, or None for the channels of the encoder's last level, without an output
    convolution."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """The number of channels: 1 for mono, 2 for stereo."""
    length: int = 2**18
    """The length of the training sounds in samples, a multiple of the number of samples per frame of the latent. Longer
    sounds are encoded and decoded in parts of this length."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation. The parameters are float32."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length")

    def _settings(self) -> dict[str, Any]:
        return {
            "in_channels": self.channels,
            "bottleneck": build_bottlenecks(self.bottleneck, self.latent_channels),
            "dtype": jnp.dtype(self.dtype),
        }

    def _checked(self, model: Any) -> Any:
        """Returns the model. Raises InputError if the sizes of the model's parts do not fit each other."""
        if self.length % model.downsample_factor:
            multiple = model.downsample_factor
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (samples per frame of the latent): "
                f"use {ceil_div(self.length, multiple) * multiple}"
            )
        if repr(self) in _FITTING:
            return model
        batch = example_batch(self)
        keys = jax.eval_shape(lambda: jax.random.key(0))
        variables = jax.eval_shape(model.init, keys, batch)
        for loss, _ in model.losses:
            jax.eval_shape(loss, variables, keys, batch)
        _FITTING.add(repr(self))
        return model


@dataclass(frozen=True, kw_only=True)
class AutoEncoderConfig(_AutoEncoderConfig):
    """Configures an autoencoder of sound.

    ``AutoEncoderConfig(coder=CoderConfig(channels=8, multipliers=(1, 2), factors=(2,), num_blocks=(1,)),
    latent_channels=4)`` configures a small autoencoder.
    """

    coder: CoderConfig | FrameCoderConfig
    """The net, which works on samples (CoderConfig) or on the frames of an STFT (FrameCoderConfig)."""
    waveform: float = 1.0
    """The weight of the mean absolute difference between the samples of the true and of the decoded sound."""
    relative_waveform: float = 0.0
    """The weight of the mean absolute difference between samples, relative to the RMS of the true sound. This loss
    depends mostly on the phases of the loudest partials."""
    stft: float = 0.0
    """The weight of the multi-resolution STFT loss."""
    phase: float = 0.0
    """The weight of the mean absolute difference between complex spectra with compressed magnitudes."""
    mel: float = 0.0
    """The weight of the log-mel loss."""
    windows: tuple[int, ...] = WINDOWS
    """Window lengths of the stft, phase and mel losses in samples, multiples of 4."""
    discriminator: CoderConfig | AdversaryConfig | None = None
    """The discriminator that is trained together with the net, such as AdversaryConfig(). None means no adversarial
    training."""
    adversarial: float = 1.0
    """The weight of the adversarial error, which is low if the discriminator gives decoded sounds high scores."""
    feature_matching: float = 1.0
    """The weight of the difference between the discriminator's features for true and for decoded sound."""
    adversary_start: int = 0
    """The number of training steps before the discriminator is trained and used."""
    balanced: bool = False
    """Whether the gradient of each loss is divided by the average norm of this gradient. The weights alone then set the
    norms of the gradients."""

    def build(self) -> AutoEncoder:
        """Builds the model. Raises InputError if settings do not fit each other."""
        net = self.coder.build(latent_channels=self.latent_channels, **self._settings())
        discriminator = None if self.discriminator is None else self.discriminator.discriminator()
        return self._checked(AutoEncoder(net, self.sample_rate, discriminator=discriminator, **self._shared()))

    def _shared(self) -> dict[str, Any]:
        names = {f.name for f in fields(AutoEncoder)} & {f.name for f in fields(self)} - {
            "sample_rate",
            "discriminator",
        }
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class MagnitudeAutoEncoderConfig(_AutoEncoderConfig):
    """Configures an autoencoder of STFT magnitudes. Example: ``MagnitudeAutoEncoderConfig(coder=coder)`` with a
    CoderConfig. Griffin-Lim makes sound from the decoded magnitudes."""

    coder: CoderConfig
    """The net, which encodes and decodes magnitudes."""
    n_fft: int = 1024
    """The length of the STFT's Hann window in samples."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""

    def build(self) -> MagnitudeAutoEncoder:
        """Builds the model. Raises InputError if settings do not fit each other."""
        stft = STFT(self.n_fft, self.hop_length, centred=False)
        net = MAE1d(**self.coder.settings(), bottleneck_channels=self.latent_channels, **self._settings(), stft=stft)
        return self._checked(MagnitudeAutoEncoder(net))
