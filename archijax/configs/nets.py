"""Configurations of nets: what models are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from archijax.convert.t5 import load_t5_config
from archijax.errors import InputError
from archijax.nn.t5 import T5Config
from archijax.nn.transforms import LearnedTransform, Patching, STFTTransform


def positive(config: Any, owner: str, *names: str) -> None:
    """Raises InputError if a setting is below 1; owner is what the settings are of."""
    for name in names:
        if getattr(config, name) < 1:
            raise InputError(f"{owner}.{name} is {getattr(config, name)}: it must be at least 1")


@dataclass(frozen=True)
class UNetConfig:
    """The U-Net; lists have one entry per depth, outermost first."""

    channels: tuple[int, ...]
    """Channels at each depth."""
    factors: tuple[int, ...]
    """Downsampling into each depth."""
    items: tuple[int, ...]
    """Repetitions of the group of items at each depth."""
    attentions: tuple[int, ...] = ()
    """Self-attention items in a group; empty for none."""
    cross_attentions: tuple[int, ...] = ()
    """Cross-attention items in a group; empty for none."""
    attention_heads: int = 8
    """Attention heads."""
    attention_features: int = 64
    """Features of a head."""
    item: Literal["resnet", "convnext"] = "resnet"
    """What a group begins with: a residual block of two convolutions, or a ConvNeXt V2 block."""
    linear_attention: bool = False
    """Attention whose cost grows with the length, not with its square."""
    resnet_groups: int = 8
    """Groups of the group norms."""
    modulation_features: int = 1024
    """Width of the time features."""

    def __post_init__(self):
        positive(self, "unet", "attention_heads", "attention_features", "resnet_groups", "modulation_features")


@dataclass(frozen=True)
class LearnedTransformConfig:
    """The learned filter bank around the U-Net."""

    num_filters: int = 128
    """Filters per channel of the sound."""
    window_length: int = 128
    """Length of a filter in samples."""
    stride: int = 64
    """Samples from one frame to the next."""
    filters: Literal["sinusoid", "random"] = "sinusoid"
    """What the filters are at first; from random ones, as in the original, learning takes longer."""

    def __post_init__(self):
        positive(self, "transform", "num_filters", "window_length", "stride")

    def wrap(self, net: nn.Module, dtype: jnp.dtype) -> LearnedTransform:
        """The transform around a net."""
        return LearnedTransform(net, self.num_filters, self.window_length, self.stride, self.filters, dtype)


@dataclass(frozen=True)
class PatchingConfig:
    """Patches of samples as channels around the U-Net."""

    patch_size: int
    """Samples of a patch."""

    def __post_init__(self):
        positive(self, "transform", "patch_size")

    @property
    def stride(self) -> int:
        """Samples from one position of the net to the next."""
        return self.patch_size

    def wrap(self, net: nn.Module, dtype: jnp.dtype) -> Patching:
        """The transform around a net."""
        return Patching(net, self.patch_size)


@dataclass(frozen=True)
class STFTConfig:
    """The short-time Fourier transform around the U-Net."""

    n_fft: int = 1024
    """Samples of a frame, and of its Hann window."""
    hop_length: int = 256
    """Samples from one frame to the next."""
    polar: bool = False
    """The net sees magnitude and phase; else real and imaginary part."""

    def __post_init__(self):
        positive(self, "transform", "n_fft", "hop_length")

    @property
    def stride(self) -> int:
        """Samples from one position of the net to the next."""
        return self.hop_length

    def wrap(self, net: nn.Module, dtype: jnp.dtype) -> STFTTransform:
        """The transform around a net."""
        return STFTTransform(net, self.n_fft, self.hop_length, self.polar)


TransformConfig = LearnedTransformConfig | PatchingConfig | STFTConfig


@dataclass(frozen=True)
class TextConfig:
    """How prompts become an embedding."""

    tokenizer: str = "bytes"
    """"bytes" (trained along), or the folder or hub name of a pretrained T5 such as t5-base (frozen)."""
    max_length: int = 64
    """Tokens per prompt; longer ones are cut."""
    cond_drop_prob: float = 0.1
    """How often training drops the prompt, so that sampling can be guided; with conditioners, the prompt alone."""
    pooled: bool = False
    """Add the mean of the embedding to the time features too: learned much faster than cross-attention alone."""
    features: int = 128
    """Width of the trained encoder; a pretrained one has its own."""
    num_layers: int = 2
    """Layers of the trained encoder."""
    num_heads: int = 4
    """Attention heads of the trained encoder."""
    placeholder_tokens: tuple[str, ...] = ()
    """Words such as "<mine>" that have a trained embedding of their own, beside those that the encoder knows."""

    def __post_init__(self):
        positive(self, "text", "max_length", "features", "num_layers", "num_heads")
        if not 0 <= self.cond_drop_prob < 1:
            raise InputError(f"text.cond_drop_prob is {self.cond_drop_prob}: it must be at least 0 and below 1")
        if "" in self.placeholder_tokens or len(set(self.placeholder_tokens)) < len(self.placeholder_tokens):
            raise InputError(
                f"text.placeholder_tokens is {self.placeholder_tokens}: different words are needed, none of them empty"
            )

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder is a pretrained one, which stays as it is."""
        return self.tokenizer != "bytes"

    def load_tokenizer(self) -> Any:
        """The tokenizer of prompts, see :func:`archijax.text.load_tokenizer`."""
        # Takes seconds to import, and building a model does not need it.
        from archijax.text import load_tokenizer

        return load_tokenizer(self.tokenizer, placeholder_tokens=self.placeholder_tokens)

    def t5(self) -> T5Config:
        """The encoder's configuration."""
        if self.is_pretrained:
            return load_t5_config(self.tokenizer)
        if self.features % self.num_heads:
            raise InputError(
                f"text.features {self.features} do not divide into text.num_heads {self.num_heads}: use a multiple"
            )
        return T5Config(
            vocab_size=259,  # 256 bytes and padding, end, unknown
            d_model=self.features,
            d_kv=self.features // self.num_heads,
            d_ff=2 * self.features,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            gated=True,
        )
