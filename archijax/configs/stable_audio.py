"""Contains the configuration of Stable Audio Open and of smaller models with its design."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.configs.autoencoder import AutoEncoderConfig
from archijax.configs.base import ModelConfig, SampleDefaults, same_sound
from archijax.configs.latents import DiffusionAEConfig
from archijax.configs.nets import TextConfig, positive
from archijax.configs.oobleck import OobleckConfig
from archijax.contract import Variables
from archijax.convert.t5 import load_t5
from archijax.diffusion import ExponentialSpacing, GaussianProcess, rectified_flow, v_diffusion
from archijax.errors import InputError
from archijax.models import DiffusionModel, LatentDiffusion
from archijax.nn.conditioning import EmbeddingFeatures
from archijax.nn.numbers import Number, NumberConditioning
from archijax.nn.t5 import T5Encoder
from archijax.nn.transformer import DiffusionTransformer


@dataclass(frozen=True)
class TransformerConfig:
    """Holds the sizes of the diffusion transformer, for the field ``transformer`` of a StableAudioConfig. The defaults
    are those of Stable Audio Open."""

    num_layers: int = 24
    """The number of layers."""
    num_heads: int = 24
    """The number of heads in self-attention, and of heads of queries in cross-attention. The width of the transformer
    is num_heads * head_features."""
    head_features: int = 64
    """The number of features of a head."""
    embedding_width: int = 768
    """The width of the tokens that cross-attention reads."""
    embedding_heads: int | None = None
    """The number of heads of keys and values in cross-attention, a divisor of num_heads. None means embedding_width //
    head_features."""
    time_features: int = 256
    """The total number of sines and cosines that encode the diffusion time, an even number."""
    rotary_features: int | None = None
    """The number of features of a head that rotary positions rotate, an even number. None means half of
    head_features."""
    qk_norm: bool = False
    """Whether queries and keys are normalised, as in Stable Audio Open Small."""

    def __post_init__(self):
        positive(self, "transformer", "num_layers", "num_heads", "head_features", "embedding_width", "time_features")


def seconds(longest: float, length: float, shortest: float = 0.0) -> tuple[Number, ...]:
    """Returns two conditioners: seconds_start, the time in a piece at which a sound begins, and seconds_total, the
    length of the piece.

    Example: ``StableAudioConfig(numbers=seconds(longest=512, length=2**21 / 44_100))``, which is the default.

    Args:
        longest: the highest value of both numbers, in seconds.
        length: the length of the training sounds in seconds. The default of seconds_total is ``length``, clipped to the
            range from shortest to longest.
        shortest: the lowest value of both numbers, in seconds.
    """
    shortest, longest = float(shortest), float(longest)
    total = min(max(length, shortest), longest)
    return Number("seconds_start", shortest, longest, shortest), Number("seconds_total", shortest, longest, total)


@dataclass(frozen=True, kw_only=True)
class StableAudioConfig(ModelConfig):
    """Configures a diffusion transformer for latents, conditioned on text and numbers such as seconds.

    The defaults are those of Stable Audio Open. A smaller model has, for example,
    ``transformer=TransformerConfig(num_layers=2, num_heads=2, embedding_width=64)``, ``conditioning_features=64`` and
    ``text=TextConfig()``.
    """

    transformer: TransformerConfig = dataclasses.field(default_factory=TransformerConfig)
    """The transformer that diffuses the latents."""
    autoencoder: OobleckConfig | AutoEncoderConfig | DiffusionAEConfig = dataclasses.field(
        default_factory=OobleckConfig
    )
    """The autoencoder, which encodes sound to latents and decodes latents to sound."""
    text: TextConfig = dataclasses.field(default_factory=lambda: TextConfig(tokenizer="t5-base", max_length=128))
    """The text conditioning."""
    conditioning_features: int = 768
    """The width of the tokens that encode text and numbers for the transformer."""
    numbers: tuple[Number, ...] = seconds(512.0, 2**21 / 44_100)
    """The numbers that the model is conditioned on, such as the result of ``seconds``."""
    sample_rate: int = 44_100
    """Samples per second."""
    channels: int = 2
    """The number of channels: 1 for mono, 2 for stereo."""
    length: int = 2**21
    """The length of the training sounds in samples. The model can also make shorter sounds."""
    method: Literal["v", "flow"] = "v"
    """The diffusion method: v-diffusion (v) or rectified flow (flow)."""
    distilled: bool = False
    """Whether the model is distilled, like Stable Audio Open Small. A distilled model has the method flow, and is
    sampled in eight steps without guidance."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation. The parameters are float32."""
    remat: bool = False
    """Whether the backward pass recomputes the activations of each layer, to save memory."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length", "conditioning_features")
        same_sound(self, self.autoencoder)
        if self.distilled and self.method != "flow":
            raise InputError(f"the method is {self.method}, but a distilled model needs flow")
        if not self.numbers or len({number.name for number in self.numbers}) < len(self.numbers):
            raise InputError("numbers needs at least one number, and different names")

    @property
    def conditioners(self) -> tuple[Number, ...]:
        """The field ``numbers``, under the name that other model configurations use."""
        return self.numbers

    @property
    def sampling(self) -> SampleDefaults:
        """The default settings of sampling, which the authors of Stable Audio chose."""
        if self.distilled:
            return SampleDefaults(num_steps=8, sampler="pingpong", guidance_scale=1.0)
        if self.method == "flow":
            return SampleDefaults(guidance_scale=7.0)
        return SampleDefaults(num_steps=100, sampler="dpm++sde", timestep_spacing="exponential", guidance_scale=7.0)

    def timing(self, start: float, total: float) -> dict[str, float]:
        """Returns {"seconds_start": start, "seconds_total": total}. A number that the model lacks is left out."""
        values = {"seconds_start": start, "seconds_total": total}
        return {number.name: values[number.name] for number in self.numbers if number.name in values}

    def process(self) -> GaussianProcess:
        """Returns the diffusion process: a :class:`archijax.GaussianProcess`, such as ``v_diffusion()``."""
        if self.method == "flow":
            return rectified_flow()
        return dataclasses.replace(v_diffusion(), timestep_spacing=ExponentialSpacing())

    def load_frozen(self) -> Variables:
        """Loads the pretrained text encoder. Returns {"embedder": parameters}, or {} without a pretrained text
        encoder."""
        return {"embedder": load_t5(self.text.tokenizer)[1]} if self.text.is_pretrained else {}

    def build(self) -> LatentDiffusion:
        """Builds the model. Raises InputError if settings do not fit each other."""
        dtype, t5, autoencoder = jnp.dtype(self.dtype), self.text.t5(), self.autoencoder.build()
        if self.length % autoencoder.downsample_factor:
            multiple = autoencoder.downsample_factor
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (samples per frame of the latent): "
                f"use {ceil_div(self.length, multiple) * multiple}"
            )
        net = DiffusionTransformer(
            **dataclasses.asdict(self.transformer),
            embedding_features=self.conditioning_features,
            global_features=len(self.numbers) * self.conditioning_features,
            remat=self.remat,
            dtype=dtype,
        )
        if self.text.pooled:
            net = EmbeddingFeatures(net)
        model = DiffusionModel(
            NumberConditioning(net, self.numbers, self.conditioning_features, t5.d_model),
            process=self.process(),
            embedder=T5Encoder(t5, dtype=dtype, zero_padding=True),
            frozen_embedder=self.text.is_pretrained,
            num_placeholders=len(self.text.placeholder_tokens),
            cond_drop_prob=self.text.cond_drop_prob,
        )
        return LatentDiffusion(model, autoencoder)
