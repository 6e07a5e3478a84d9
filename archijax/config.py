"""Model configurations: frozen dataclasses that build a model, and their form in config.json."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from .diffusion import v_diffusion
from .errors import InputError
from .models import DiffusionModel
from .t5 import T5Config, T5Encoder, load_t5, load_t5_config
from .transforms import LearnedTransform
from .unet import UNetV0


def _positive(config: Any, owner: str, *names: str) -> None:
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
    resnet_groups: int = 8
    """Groups of the group norms."""
    modulation_features: int = 1024
    """Width of the time features."""

    def __post_init__(self):
        _positive(self, "unet", "attention_heads", "attention_features", "resnet_groups", "modulation_features")


@dataclass(frozen=True)
class LearnedTransformConfig:
    """The learned filter bank around the U-Net."""

    num_filters: int = 128
    """Filters per channel of the sound."""
    window_length: int = 128
    """Length of a filter in samples."""
    stride: int = 64
    """Samples from one frame to the next."""

    def __post_init__(self):
        _positive(self, "transform", "num_filters", "window_length", "stride")


@dataclass(frozen=True)
class TextConfig:
    """How prompts become an embedding."""

    tokenizer: str = "bytes"
    """"bytes" (trained along), or the folder or hub name of a pretrained T5 such as t5-base (frozen)."""
    max_length: int = 64
    """Tokens per prompt; longer ones are cut."""
    mask_proba: float = 0.1
    """How often training drops the prompt, so that sampling can be guided."""
    pooled: bool = False
    """Add the mean of the embedding to the time features too: learned much faster than cross-attention alone."""
    features: int = 128
    """Width of the trained encoder; a pretrained one has its own."""
    num_layers: int = 2
    """Layers of the trained encoder."""
    num_heads: int = 4
    """Attention heads of the trained encoder."""

    def __post_init__(self):
        _positive(self, "text", "max_length", "features", "num_layers", "num_heads")
        if not 0 <= self.mask_proba < 1:
            raise InputError(f"text.mask_proba is {self.mask_proba}: it must be at least 0 and below 1")

    def t5(self) -> T5Config:
        """The encoder's configuration."""
        if self.tokenizer != "bytes":
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


@dataclass(frozen=True)
class DiffusionConfig:
    """A diffusion model of sound, with or without text: v-diffusion on a U-Net."""

    unet: UNetConfig
    """The net."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """1 for mono, 2 for stereo."""
    length: int = 2**18
    """Samples of the sounds it is trained on; it can make others."""
    transform: LearnedTransformConfig | None = None
    """Filter bank around the net, or None: the net works on samples."""
    text: TextConfig | None = None
    """Text conditioning, or None."""
    schedule_shift: float = 1.0
    """Below 1 more of the training is at low noise, as sound far below full scale needs; about its RMS."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""
    remat: bool = False
    """Recompute activations in the backward pass, for less memory."""

    def __post_init__(self):
        _positive(self, "model", "sample_rate", "channels", "length")

    def build(self) -> DiffusionModel:
        """The model.

        Raises:
            InputError: settings that do not fit each other.
        """
        dtype = jnp.dtype(self.dtype)
        settings = {f.name: getattr(self.unet, f.name) for f in dataclasses.fields(UNetConfig)}
        embedder, pretrained = None, None
        if self.text is not None:
            t5 = self.text.t5()
            embedder = T5Encoder(t5, dtype=dtype)
            if self.text.tokenizer != "bytes":
                name = self.text.tokenizer
                pretrained = lambda: load_t5(name)[1]  # noqa: E731
            settings |= {
                "embedding_features": t5.d_model,
                "use_embedding_cfg": True,
                "embedding_max_length": self.text.max_length,
                "use_embedding_features": self.text.pooled,
            }
        net = UNetV0(**settings, remat=self.remat, dtype=dtype)
        if self.transform is not None:
            net = LearnedTransform(net, **dataclasses.asdict(self.transform), dtype=dtype)
        if self.length % net.length_multiple:
            raise InputError(
                f"length {self.length} is not a multiple of {net.length_multiple} (factors and stride): "
                f"use {-(-self.length // net.length_multiple) * net.length_multiple}"
            )
        return DiffusionModel(
            net,
            process=v_diffusion(self.schedule_shift),
            embedder=embedder,
            pretrained=pretrained,
            embedding_mask_proba=0.0 if self.text is None else self.text.mask_proba,
        )


KINDS: dict[str, type] = {"diffusion": DiffusionConfig}


def to_dict(config: Any) -> dict[str, Any]:
    """A model configuration as nested JSON-able dicts, its kind under "kind"."""
    kinds = {cls: kind for kind, cls in KINDS.items()}
    if type(config) not in kinds:
        raise InputError(f"{type(config).__name__} is not a model configuration: known are {', '.join(KINDS)}")
    return {"kind": kinds[type(config)], **dataclasses.asdict(config)}


def from_dict(values: dict[str, Any]) -> Any:
    """The configuration that :func:`to_dict` gave.

    Raises:
        InputError: an unknown kind, an unknown or missing setting, or a value of another type.
    """
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        kind = values.get("kind") if isinstance(values, dict) else values
        raise InputError(f"the model's kind is {kind!r}: known are {', '.join(KINDS)}")
    rest = {name: value for name, value in values.items() if name != "kind"}
    return _read(KINDS[values["kind"]], rest, values["kind"])


def _read(wanted: Any, value: Any, name: str) -> Any:
    """``value`` from JSON as the type ``wanted``."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        hints = typing.get_type_hints(wanted)
        if unknown := sorted(value.keys() - hints.keys()):
            raise InputError(f"{name} has the unknown setting {unknown[0]!r}: it takes {', '.join(hints)}")
        for f in dataclasses.fields(wanted):
            if f.default is dataclasses.MISSING and f.name not in value:
                raise InputError(f"{name} lacks the setting {f.name!r}")
        return wanted(**{key: _read(hints[key], inner, f"{name}.{key}") for key, inner in value.items()})
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        return _read(next(arg for arg in args if arg is not type(None)), value, name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(args[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is Literal and value in args:
        return value
    if wanted is float and type(value) in (int, float):
        return float(value)
    if origin is None and type(value) is wanted:
        return value
    raise InputError(f"{name} is {value!r}: {getattr(wanted, '__name__', wanted)} is needed")
