"""Contains the configurations of diffusion models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT
from archijax.configs.base import ModelConfig, SampleDefaults
from archijax.configs.conditioners import ConditionerConfig, check_names, conditioned
from archijax.configs.nets import TextConfig, TransformConfig, UNetConfig, positive
from archijax.contract import Variables
from archijax.convert.t5 import load_t5
from archijax.diffusion import GaussianProcess, LinearSpacing, ddpm, edm, min_snr, rectified_flow, v_diffusion
from archijax.errors import InputError
from archijax.models import DiffusionModel, DiffusionUpsampler, DiffusionVocoder
from archijax.models.envelope import Envelope, MelEnvelope
from archijax.models.errors import ErrorName, named_error
from archijax.nn.conditioners import PREFIX
from archijax.nn.conditioning import AppendChannels
from archijax.nn.t5 import T5Encoder
from archijax.nn.unet_v0 import UNetV0


@dataclass(frozen=True)
class DiffusionConfig(ModelConfig):
    """Configures a diffusion model of sound with a U-Net, with or without text.

    ``DiffusionConfig(UNetConfig(channels=(8, 16), factors=(1, 2), items=(1, 1)), length=1024)`` has no text.
    ``DiffusionConfig(unet, text=TextConfig(pooled=True))`` reads text. A U-Net with ``cross_attentions`` can read text
    without ``pooled``.
    """

    unet: UNetConfig
    """The U-Net."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """The number of channels: 1 for mono, 2 for stereo."""
    length: int = 2**18
    """The length of the training sounds in samples. The model can make sounds of other lengths."""
    transform: TransformConfig | None = None
    """A filter bank, patches or an STFT around the net. With None, the net works on samples."""
    text: TextConfig | None = None
    """The text conditioning, or None for a model without text."""
    conditioners: tuple[ConditionerConfig, ...] = ()
    """Numbers and categories that the model is conditioned on. Each name is the name of a field in the data."""
    cond_drop_prob: float = 0.1
    """The probability that training leaves out all conditioners and the prompt. Guidance needs more than 0. Without
    conditioners, ``text.cond_drop_prob`` is used instead."""
    method: Literal["v", "ddpm", "edm", "flow"] = "v"
    """The diffusion method: v-diffusion (v), DDPM (ddpm, which predicts the noise), EDM (edm) or rectified flow
    (flow)."""
    schedule_shift: float = 1.0
    """For v: the shift of the noise schedule. A shift below 1 gives more low noise levels, which quiet sounds need. A
    good first try is the RMS of the sounds."""
    sigma_data: float = 0.5
    """For EDM: the RMS of the sounds."""
    sigma_range: tuple[float, float] | None = None
    """For EDM: the lowest and the highest sigma of sampling. None means 0.002 and 80, both multiplied by sigma_data /
    0.5."""
    betas: Literal["linear", "cosine"] = "linear"
    """For DDPM: how the noise grows over the 1000 diffusion steps."""
    timestep_range: tuple[float, float] = (0.0, 1.0)
    """For v, DDPM and flow: the time at which sampling ends and the time at which it starts; 0 is sound, 1 is noise."""
    error: ErrorName = "mse"
    """The error of training. The errors mse, l1, huber and a_weighted (weighted by the ear's sensitivity) compare
    predictions. stft and mel compare the sounds that the predictions imply, by several STFTs or mel spectrograms."""
    min_snr: float | None = None
    """The limit gamma of min-SNR weights, such as 5. With None, all noise levels have equal weights."""
    stratified: bool = False
    """Whether the items of a batch draw their diffusion times from different intervals of equal probability."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation. The parameters are float32."""
    remat: bool = False
    """Whether the backward pass recomputes activations, to save memory."""
    sampling: SampleDefaults = dataclasses.field(default_factory=SampleDefaults)
    """The default settings of sampling."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length")
        check_names(self.conditioners)
        if not 0 <= self.cond_drop_prob < 1:
            raise InputError(f"cond_drop_prob is {self.cond_drop_prob}: it must be at least 0 and below 1")
        if self.schedule_shift != 1 and self.method != "v":
            raise InputError(f"schedule_shift is {self.schedule_shift}, but the method {self.method} has none: use 1")
        if not 0 < self.sigma_data < float("inf"):
            raise InputError(f"sigma_data is {self.sigma_data}: it must be above 0")
        if self.sigma_range is not None and self.method != "edm":
            raise InputError(f"sigma_range is {self.sigma_range}, but the method {self.method} has none: leave it out")
        if self.betas != "linear" and self.method != "ddpm":
            raise InputError(f"betas is {self.betas}, but the method {self.method} has none: leave it out")
        if self.timestep_range != (0.0, 1.0) and self.method == "edm":
            raise InputError("timestep_range has no effect on the method edm: use sigma_range")
        if self.error in ("stft", "mel") and self.method == "ddpm":
            raise InputError(
                f"error is {self.error}, but ddpm's prediction implies no sound at high noise: use mse, l1 or huber"
            )
        if self.min_snr is not None and not self.min_snr > 0:
            raise InputError(f"min_snr is {self.min_snr}: it must be above 0, such as 5")

    def process(self) -> GaussianProcess:
        """Returns the diffusion process: a :class:`archijax.GaussianProcess`, such as ``v_diffusion()``."""
        methods = {
            "v": lambda: v_diffusion(self.schedule_shift),
            "ddpm": lambda: ddpm(betas=self.betas),
            "edm": lambda: edm(self.sigma_data, self.sigma_range),
            "flow": rectified_flow,
        }
        if self.method not in methods:
            raise InputError(f'method is "{self.method}": {", ".join(methods)} are known')
        process = methods[self.method]()
        if self.timestep_range == (0.0, 1.0):
            return process
        end, start = self.timestep_range
        return dataclasses.replace(process, timestep_spacing=LinearSpacing(start, end))

    def load_frozen(self) -> Variables:
        """Loads the pretrained text encoder. Returns {"embedder": parameters}, or {} without a pretrained text
        encoder."""
        if self.text is None or not self.text.is_pretrained:
            return {}
        return {"embedder": load_t5(self.text.tokenizer)[1]}

    def build(self) -> DiffusionModel:
        """Builds the model. Raises InputError if settings do not fit each other."""
        return self._diffusion()

    def _diffusion(
        self, wrap: Callable[[nn.Module], nn.Module] = lambda net: net, *, frame: int = 1, **injected: Any
    ) -> DiffusionModel:
        """Builds the diffusion model.

        Args:
            wrap: the outermost wrapper of the net.
            frame: the number of samples of sound per position of the diffused array.
            injected: settings of :class:`UNetV0` that the field ``unet`` does not have.
        """
        dtype = jnp.dtype(self.dtype)
        settings = {f.name: getattr(self.unet, f.name) for f in dataclasses.fields(UNetConfig)}
        embedder, width = None, self.unet.modulation_features
        tokens = sum(each.into == "embedding" for each in self.conditioners)
        if self.text is not None:
            t5 = self.text.t5()
            embedder, width, tokens = T5Encoder(t5, dtype=dtype), t5.d_model, tokens + self.text.max_length
        if tokens:
            pooled = self.text is not None and self.text.pooled
            if self.conditioners and not (pooled or any(self.unet.cross_attentions)):
                raise InputError("no part of the net reads the embedding: use unet.cross_attentions or text.pooled")
            settings |= {
                "embedding_features": width,
                "use_embedding_cfg": True,
                "embedding_max_length": tokens,
                "use_embedding_features": pooled,
            }
        net = UNetV0(**settings, **injected, remat=self.remat, dtype=dtype)
        if self.transform is not None:
            net = self.transform.wrap(net, dtype)
        net = conditioned(net, self.conditioners, self.unet.modulation_features, width)
        multiple = frame * net.length_multiple
        if self.length % multiple:
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (factors and stride): "
                f"use {ceil_div(self.length, multiple) * multiple}"
            )
        process = self.process()
        return DiffusionModel(
            wrap(net),
            process=process,
            **named_error(self.error, self.sample_rate, self.length),
            weight=None if self.min_snr is None else min_snr(process, self.min_snr),
            stratified=self.stratified,
            embedder=embedder,
            frozen_embedder=self.text is not None and self.text.is_pretrained,
            num_placeholders=0 if self.text is None else len(self.text.placeholder_tokens),
            **self._dropping(),
        )

    def _dropping(self) -> dict[str, Any]:
        """Returns the arguments cond_drop_prob and drop_probs of :class:`archijax.DiffusionModel` as a dict."""
        text = 0.0 if self.text is None else self.text.cond_drop_prob
        if not self.conditioners:
            return {"cond_drop_prob": text}
        alone = {PREFIX + each.name: each.drop_prob for each in self.conditioners}
        return {"cond_drop_prob": self.cond_drop_prob, "drop_probs": {**alone, "embedding": text}}


@dataclass(frozen=True)
class EnvelopeConfig:
    """Configures the net that estimates the envelope of a sound: for an upsampler from the low band, and for a vocoder
    from the mel spectrogram."""

    n_fft: int = 1024
    """The length of the STFT's Hann window in samples."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""
    channels: int = 192
    """The number of channels of the blocks."""
    num_blocks: int = 5
    """The number of ConvNeXt blocks."""


@dataclass(frozen=True)
class UpsamplerConfig(DiffusionConfig):
    """Configures a diffusion upsampler. Example: ``UpsamplerConfig(unet, factor=2)``. The fields sample_rate and length
    describe the upsampled sound."""

    factor: int = 16
    """The factor by which the sample rate rises, at least 2."""
    lowpass_filter_width: int = 6
    """The width of the filter that makes the low-rate sounds of training, in samples at the low sample rate. The
    original code uses 6. With a width of 6, low-rate sounds contain aliases of the high band, and the net learns to use
    these aliases. A width of 64 is better, because low-rate sounds from other resamplers do not contain such
    aliases."""
    envelope: EnvelopeConfig | None = None
    """The net that estimates the envelope of the high band. The spectrum of a sound is divided by the envelope before
    diffusion, and training needs far fewer steps. None means that no envelope is used."""

    def build(self) -> DiffusionUpsampler:
        """Builds the model. Raises InputError if settings do not fit each other."""
        positive(self, "model", "lowpass_filter_width")
        if self.length % self.factor or self.sample_rate % self.factor:
            raise InputError(
                f"factor {self.factor} does not divide the sample rate {self.sample_rate} and the length {self.length}"
            )
        envelope = None
        if self.envelope is not None:
            stft = STFT(self.envelope.n_fft, self.envelope.hop_length)
            sizes = self.envelope.channels, self.envelope.num_blocks
            envelope = Envelope(stft, self.factor, *sizes, dtype=jnp.dtype(self.dtype))
        model = self._diffusion(AppendChannels)
        return DiffusionUpsampler(model, self.factor, envelope, self.lowpass_filter_width)


@dataclass(frozen=True)
class VocoderConfig(DiffusionConfig):
    """Configures a diffusion vocoder, which makes sound from log-mel spectrograms. Example: ``VocoderConfig(unet,
    mel_channels=80)``. The channels of a sound are treated as independent mono sounds."""

    n_fft: int = 1024
    """The length of the spectrogram's Hann window in samples."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""
    mel_channels: int = 80
    """The number of mel bands."""
    envelope: EnvelopeConfig | None = None
    """The net that estimates the levels of all frequencies from the mel spectrogram, with the n_fft and hop_length of
    the spectrogram. The spectrum of a sound is divided by the levels before diffusion, and training needs far fewer
    steps. None means that no envelope is used."""

    def build(self) -> DiffusionVocoder:
        """Builds the model. Raises InputError if settings do not fit each other."""
        if self.length % self.hop_length:
            raise InputError(f"length {self.length} is not a multiple of hop_length {self.hop_length}")
        mel = MelSpectrogram(
            self.n_fft, self.hop_length, self.n_fft, self.sample_rate, self.mel_channels, normalize="log"
        )
        envelope = None
        if self.envelope is not None:
            stft = STFT(self.envelope.n_fft, self.envelope.hop_length, self.envelope.n_fft, centred=False)
            sizes = self.envelope.channels, self.envelope.num_blocks
            envelope = MelEnvelope(stft, *sizes, dtype=jnp.dtype(self.dtype))
        return DiffusionVocoder(self._diffusion(AppendChannels), mel, envelope)
