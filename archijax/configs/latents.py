"""Contains the configurations of diffusion models that have or make latents."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT
from archijax.codecs.encoders import Encoder1d, ME1d, MelE1d
from archijax.configs.autoencoder import AutoEncoderConfig
from archijax.configs.base import ModelConfig, same_sound
from archijax.configs.bottlenecks import BottleneckConfig, TanhConfig, build_bottlenecks
from archijax.configs.coders import CoderConfig
from archijax.configs.diffusion import DiffusionConfig
from archijax.errors import InputError
from archijax.models import DiffusionAE, LatentDiffusion


def _check_latents(config: DiffusionConfig, autoencoder: ModelConfig) -> None:
    """Raises InputError if a model that diffuses the latents of an autoencoder has settings that do not fit latents, or
    another kind of sound than the autoencoder."""
    same_sound(config, autoencoder)
    if config.error in ("a_weighted", "stft", "mel"):
        raise InputError(
            f"error is {config.error}, which compares sound, but this model diffuses latents: use mse, l1 or huber"
        )


@dataclass(frozen=True)
class EncoderConfig:
    """Configures the encoder of a diffusion autoencoder. Example: ``EncoderConfig(coder=coder)`` with a CoderConfig."""

    coder: CoderConfig
    """The net of the encoder."""
    kind: Literal["magnitude", "log_magnitude", "mel", "waveform"] = "magnitude"
    """The input of the net: magnitudes of an STFT or their logarithms, a log-mel spectrogram, or samples (waveform). If
    the diffusion autoencoder has an autoencoder of its own, the kind must be waveform, and the input is its latents."""
    n_fft: int = 1023
    """The length of the Hann window in samples. There must be one frame per hop_length samples: n_fft must be odd for
    magnitudes, and n_fft - hop_length must be even for mel."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""
    mel_channels: int = 80
    """The number of mel bands."""
    bottleneck: tuple[BottleneckConfig, ...] = (TanhConfig(),)
    """The bottlenecks in the order of their use."""
    latent_channels: int | None = 32
    """The number of channels of the latent, or None for the channels of the last level, without an output
    convolution."""

    def build(self, sample_rate: int, dtype: DTypeLike) -> Encoder1d:
        """Builds the encoder, a Flax module, for sounds with this sample rate in Hz."""
        shared = {
            **self.coder.settings(),
            "out_channels": self.latent_channels,
            "bottleneck": build_bottlenecks(self.bottleneck, self.latent_channels),
            "dtype": dtype,
        }
        if self.kind in ("magnitude", "log_magnitude"):
            return ME1d(**shared, stft=STFT(self.n_fft, self.hop_length), use_log=self.kind == "log_magnitude")
        if self.kind == "mel":
            mel = MelSpectrogram(
                self.n_fft, self.hop_length, self.n_fft, sample_rate, self.mel_channels, normalize="log"
            )
            return MelE1d(**shared, mel=mel)
        return Encoder1d(**shared)


@dataclass(frozen=True, kw_only=True)
class DiffusionAEConfig(DiffusionConfig):
    """Configures a diffusion autoencoder.

    The latent enters the net at a depth that has as many positions as the latent has frames. An example is
    ``DiffusionAEConfig(UNetConfig(channels=(8, 16), factors=(1, 512), items=(1, 1)),
    encoder=EncoderConfig(coder=coder))`` with ``coder.factors`` (2,). The latent of this model has one frame per ``2 *
    256`` samples, where 256 is the encoder's hop_length. The second depth of the net has one position per ``1 * 512``
    samples.
    """

    encoder: EncoderConfig
    """The encoder, which turns sounds into latents."""
    inject_depth: int | None = None
    """The depth at which the latent enters. None means the deepest depth with one position per frame."""
    autoencoder: AutoEncoderConfig | None = None
    """A trained autoencoder, whose latents take the place of the sound: they are encoded and diffused, and training
    needs far fewer steps. None means that the sound itself is encoded and diffused."""

    def build(self) -> DiffusionAE:
        """Builds the model. Raises InputError if settings do not fit each other."""
        encoder = self.encoder.build(self.sample_rate, jnp.dtype(self.dtype))
        autoencoder = None
        if self.autoencoder is not None:
            _check_latents(self, self.autoencoder)
            if self.encoder.kind != "waveform":
                raise InputError(f"encoder.kind is {self.encoder.kind}: the encoder of latents needs waveform")
            autoencoder = self.autoencoder.build()
        # The encoder and the net divide the number of positions, of which each one has this number of samples.
        position = 1 if autoencoder is None else autoencoder.downsample_factor
        stride = position if self.transform is None else position * self.transform.stride
        shortened = [stride * math.prod(self.unet.factors[: depth + 1]) for depth in range(len(self.unet.factors))]
        frame = position * encoder.downsample_factor
        if frame not in shortened:
            raise InputError(
                f"the latent has a frame every {frame} samples, and the net a position every "
                f"{', '.join(map(str, shortened))}: make the first one of these"
            )
        depths = [d for d, samples in enumerate(shortened) if samples == frame]
        depth = depths[-1] if self.inject_depth is None else self.inject_depth
        if depth not in depths:
            raise InputError(
                f"inject_depth is {depth}, but the net has other positions than the latent there: use one of {depths}"
            )
        channels = [0] * len(shortened)
        channels[depth] = encoder.latent_channels
        if self.length % frame:
            raise InputError(f"length {self.length} is not a multiple of {frame}, the samples per frame")
        return DiffusionAE(
            self._diffusion(frame=position, context_channels=channels),
            encoder,
            depth,
            autoencoder=autoencoder,
            channels=self.channels,
        )


@dataclass(frozen=True, kw_only=True)
class LatentConfig(DiffusionConfig):
    """Configures a diffusion model of an autoencoder's latents. The fields sample_rate, channels and length describe
    the sound.

    ``LatentConfig(UNetConfig(channels=(8,), factors=(1,), items=(1,)), autoencoder=AutoEncoderConfig(coder=CoderConfig(
    channels=8, multipliers=(1, 2), factors=(2,), num_blocks=(1,))))`` configures a small model.
    """

    autoencoder: DiffusionAEConfig | AutoEncoderConfig = dataclasses.field()
    """The autoencoder, which encodes sound to latents and decodes latents to sound."""

    def build(self) -> LatentDiffusion:
        """Builds the model. Raises InputError if settings do not fit each other."""
        _check_latents(self, self.autoencoder)
        autoencoder = self.autoencoder.build()
        return LatentDiffusion(self._diffusion(frame=autoencoder.downsample_factor), autoencoder)
