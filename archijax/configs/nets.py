"""Contains the configurations of nets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
from jax.typing import DTypeLike

from archijax.convert.t5 import load_t5_config
from archijax.errors import InputError
from archijax.nn.t5 import T5Config
from archijax.nn.transforms import LearnedTransform, Patching, STFTTransform


def positive(config: Any, owner: str, *names: str) -> None:
    """Raises InputError if one of the attributes ``names`` of ``config`` is below 1. The error message calls the
    attribute ``owner.name``."""
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{owner}.{name} is {getattr(config, name)}: it must be at least 1")


@dataclass(frozen=True)
class UNetConfig:
    """Holds the settings of a U-Net. Each list has one entry per depth. The first entry belongs to the outermost depth.

    Example: ``DiffusionConfig(UNetConfig(channels=(8, 16), factors=(1, 2), items=(1, 1)))``.
    """

    channels: tuple[int, ...]
    """The number of channels at each depth."""
    factors: tuple[int, ...]
    """The downsampling factor of each depth."""
    items: tuple[int, ...]
    """How often each depth repeats its group of layers."""
    attentions: tuple[int, ...] = ()
    """The number of self-attention layers in the group of each depth. Empty means none."""
    cross_attentions: tuple[int, ...] = ()
    """The number of cross-attention layers in the group of each depth. Empty means none."""
    attention_heads: int = 8
    """The number of attention heads."""
    attention_features: int = 64
    """The number of features of an attention head."""
    item: Literal["resnet", "convnext", "adaptive"] = "resnet"
    """The first layer of each group: a residual block of two convolutions (resnet), a ConvNeXt V2 block (convnext), or
    a ConvNeXt block with an adaptive norm (adaptive). Models of notes need fewer training steps with adaptive blocks
    than with resnets."""
    positions: int = 0
    """The number of wavelengths (16, 32, 64, ... positions) of sines and cosines that are appended to the input as
    channels. These channels tell the net where in the sound a position is. 0 means no such channels."""
    linear_attention: bool = False
    """Whether attention is linear. The cost of linear attention is proportional to the length. The cost of other
    attention is proportional to the square of the length."""
    resnet_groups: int = 8
    """The number of groups of the group norms, a divisor of the number of channels of every depth."""
    modulation_features: int = 1024
    """The width of the time features."""

    def __post_init__(self):
        positive(self, "unet", "attention_heads", "attention_features", "resnet_groups", "modulation_features")
        if self.positions < 0:
            raise InputError(f"unet.positions is {self.positions}: it must be at least 0")


@dataclass(frozen=True)
class LearnedTransformConfig:
    """Configures a learned filter bank around the U-Net: ``DiffusionConfig(unet,
    transform=LearnedTransformConfig())``."""

    num_filters: int = 128
    """The number of filters per channel of the sound."""
    window_length: int = 128
    """The length of a filter in samples, a multiple of the stride. window_length - stride must be even."""
    stride: int = 64
    """The number of samples from one frame to the next."""
    filters: Literal["sinusoid", "random"] = "sinusoid"
    """The initial filters. The original PyTorch code has random filters, with which training takes longer."""

    def __post_init__(self):
        positive(self, "transform", "num_filters", "window_length", "stride")

    def wrap(self, net: nn.Module, dtype: DTypeLike) -> LearnedTransform:
        """Returns a module that takes and returns sound [b, time, c]. The module applies the transform, the net and the
        inverse transform."""
        return LearnedTransform(net, self.num_filters, self.window_length, self.stride, self.filters, dtype)


@dataclass(frozen=True)
class PatchingConfig:
    """Configures patches of samples, which become channels for the U-Net: ``DiffusionConfig(unet,
    transform=PatchingConfig(8))``."""

    patch_size: int
    """The number of samples of a patch."""

    def __post_init__(self):
        positive(self, "transform", "patch_size")

    @property
    def stride(self) -> int:
        """The number of samples from one position of the net to the next."""
        return self.patch_size

    def wrap(self, net: nn.Module, dtype: DTypeLike) -> Patching:
        """Returns a module that takes and returns sound [b, time, c]. The module applies the transform, the net and the
        inverse transform."""
        return Patching(net, self.patch_size)


@dataclass(frozen=True)
class STFTConfig:
    """Configures a short-time Fourier transform around the U-Net: ``DiffusionConfig(unet, transform=STFTConfig())``."""

    n_fft: int = 1024
    """The length of the STFT's Hann window in samples."""
    hop_length: int = 256
    """The number of samples from one frame to the next."""
    polar: bool = False
    """Whether the net sees magnitudes and phases instead of real and imaginary parts."""

    def __post_init__(self):
        positive(self, "transform", "n_fft", "hop_length")

    @property
    def stride(self) -> int:
        """The number of samples from one position of the net to the next."""
        return self.hop_length

    def wrap(self, net: nn.Module, dtype: DTypeLike) -> STFTTransform:
        """Returns a module that takes and returns sound [b, time, c]. The module applies the transform, the net and the
        inverse transform."""
        return STFTTransform(net, self.n_fft, self.hop_length, self.polar)


TransformConfig = LearnedTransformConfig | PatchingConfig | STFTConfig


# The number of ids of each tokenizer for trained encoders. "bytes" has 256 bytes and the ids padding, end and unknown.
VOCABULARY = {"bytes": 259, "words": 4096}


@dataclass(frozen=True)
class TextConfig:
    """Configures the text conditioning: the tokenizer and the encoder of prompts.

    Example: ``DiffusionConfig(unet, text=TextConfig(pooled=True))``.
    """

    tokenizer: str = "bytes"
    """"words" or "bytes" for a text encoder that is trained with the model, or the folder or hub name of a frozen T5,
    such as t5-base. With words, names are learned in fewer steps. With bytes, the encoder can read words that are not
    in the training data."""
    max_length: int = 64
    """The number of tokens of a prompt. Longer prompts are cut."""
    cond_drop_prob: float = 0.1
    """The probability that training drops the prompt and keeps the conditioners. Guidance needs more than 0."""
    pooled: bool = False
    """Whether a linear map of the embedding's mean is added to the time features. Training is then much faster."""
    features: int = 128
    """The width of the trained encoder, a multiple of num_heads. A pretrained encoder has its own width."""
    num_layers: int = 2
    """The number of layers of the trained encoder."""
    num_heads: int = 4
    """The number of attention heads of the trained encoder."""
    placeholder_tokens: tuple[str, ...] = ()
    """Placeholder tokens: words such as "<mine>" with their own trained embeddings."""

    def __post_init__(self):
        positive(self, "text", "max_length", "features", "num_layers", "num_heads")
        if not 0 <= self.cond_drop_prob < 1:
            raise InputError(f"text.cond_drop_prob is {self.cond_drop_prob}: it must be at least 0 and below 1")
        if "" in self.placeholder_tokens or len(set(self.placeholder_tokens)) < len(self.placeholder_tokens):
            raise InputError(
                f"text.placeholder_tokens is {self.placeholder_tokens}: the words must differ, and none can be empty"
            )

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder is pretrained and frozen."""
        return self.tokenizer not in VOCABULARY

    def load_tokenizer(self) -> Any:
        """Returns the tokenizer of prompts, see :func:`archijax.text.load_tokenizer`."""
        # This import takes seconds, and building a model does not need it.
        from archijax.text import load_tokenizer

        return load_tokenizer(self.tokenizer, placeholder_tokens=self.placeholder_tokens)

    def t5(self) -> T5Config:
        """Returns the configuration of the text encoder, for :class:`archijax.nn.T5Encoder`."""
        if self.is_pretrained:
            return load_t5_config(self.tokenizer)
        if self.features % self.num_heads:
            raise InputError(
                f"text.features {self.features} do not divide into text.num_heads {self.num_heads}: use a multiple"
            )
        return T5Config(
            vocab_size=VOCABULARY[self.tokenizer],
            d_model=self.features,
            d_kv=self.features // self.num_heads,
            d_ff=2 * self.features,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            gated=True,
        )
