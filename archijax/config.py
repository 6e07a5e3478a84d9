"""Model configurations: frozen dataclasses that build a model, and their form in config.json."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from .audio.stft import STFT
from .bottlenecks import (
    BitcodesBottleneck,
    Bottleneck,
    NoiserBottleneck,
    TanhBottleneck,
    VariationalBottleneck,
    VectorQuantizer,
)
from .diffusion import GaussianProcess, ddpm, edm, rectified_flow, v_diffusion
from .discriminator import Discriminator1d
from .encoders import AutoEncoder1d, Encoder1d, MAE1d
from .errors import InputError
from .losses import WINDOWS
from .models import AutoEncoder, DiffusionModel, MagnitudeAutoEncoder
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
    """A diffusion model of sound, with or without text, on a U-Net."""

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
    method: Literal["v", "ddpm", "edm", "flow"] = "v"
    """Diffusion method: v-diffusion, DDPM (noise prediction, 1000 linear betas), EDM, or rectified flow."""
    schedule_shift: float = 1.0
    """Of v: below 1 more of the training is at low noise, as sound far below full scale needs; about its RMS."""
    sigma_data: float = 0.5
    """Of EDM: the RMS of the sounds."""
    stratified: bool = False
    """Draw the times of a batch from equal parts of their distribution, one each."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""
    remat: bool = False
    """Recompute activations in the backward pass, for less memory."""

    def __post_init__(self):
        _positive(self, "model", "sample_rate", "channels", "length")
        if self.schedule_shift != 1 and self.method != "v":
            raise InputError(f"schedule_shift is {self.schedule_shift}, but the method {self.method} has none: use 1")
        if not 0 < self.sigma_data < float("inf"):
            raise InputError(f"sigma_data is {self.sigma_data}: it must be above 0")

    def process(self) -> GaussianProcess:
        """The diffusion method."""
        if self.method == "v":
            return v_diffusion(self.schedule_shift)
        return {"ddpm": ddpm(), "edm": edm(self.sigma_data), "flow": rectified_flow()}[self.method]

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
            process=self.process(),
            stratified=self.stratified,
            embedder=embedder,
            pretrained=pretrained,
            embedding_mask_proba=0.0 if self.text is None else self.text.mask_proba,
        )


@dataclass(frozen=True)
class CoderConfig:
    """An encoder, and where one is needed the decoder that mirrors it; lists go from sound to latent."""

    channels: int
    """Channels between levels are this times the multipliers."""
    multipliers: tuple[int, ...]
    """One entry more than there are levels."""
    factors: tuple[int, ...]
    """How many times each level shortens."""
    num_blocks: tuple[int, ...]
    """Resnets of each level."""
    patch_size: int = 1
    """Samples that become one position before the first level."""
    resnet_groups: int = 8
    """Groups of the group norms."""

    def __post_init__(self):
        _positive(self, "coder", "channels", "patch_size", "resnet_groups")

    def settings(self) -> dict[str, Any]:
        """The fields that encoders and autoencoders share."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(CoderConfig)}


@dataclass(frozen=True)
class BottleneckConfig:
    """What stands between encoder and decoder."""

    kinds: tuple[Literal["tanh", "noise", "variational", "bitcodes", "quantizer"], ...] = ("tanh",)
    """One, or several in sequence."""
    channels: int = 32
    """Channels of the latent."""
    sigma: float = 0.1
    """Of noise: its standard deviation in training."""
    kl_weight: float = 1e-4
    """Of variational: weight of the divergence."""
    num_bits: int = 8
    """Of bitcodes: bits of each latent."""
    num_codes: int = 1024
    """Of the quantizer: vectors of its codebook."""
    num_levels: int = 1
    """Of the quantizer: codebooks, each for what those before it leave."""
    commitment_weight: float = 0.25
    """Of the quantizer: weight of the distance between latents and their codes."""

    def __post_init__(self):
        _positive(self, "bottleneck", "channels", "num_bits", "num_codes", "num_levels")

    def build(self) -> tuple[Bottleneck, ...]:
        """The bottlenecks."""
        makers = {
            "tanh": TanhBottleneck,
            "noise": lambda: NoiserBottleneck(self.sigma),
            "variational": lambda: VariationalBottleneck(self.kl_weight),
            "bitcodes": lambda: BitcodesBottleneck(self.channels, self.num_bits),
            "quantizer": lambda: VectorQuantizer(
                self.channels, self.num_codes, self.num_levels, commitment_weight=self.commitment_weight
            ),
        }
        return tuple(makers[kind]() for kind in self.kinds)


@dataclass(frozen=True)
class _AutoEncoderConfig:
    coder: CoderConfig
    """The net."""
    bottleneck: BottleneckConfig = BottleneckConfig()
    """Its bottleneck."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """1 for mono, 2 for stereo."""
    length: int = 2**18
    """Samples of the sounds it is trained on, and of the parts that programs code longer ones by."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""

    def __post_init__(self):
        _positive(self, "model", "sample_rate", "channels", "length")

    def _settings(self) -> dict[str, Any]:
        return {
            **self.coder.settings(),
            "in_channels": self.channels,
            "bottleneck": self.bottleneck.build(),
            "bottleneck_channels": self.bottleneck.channels,
            "dtype": jnp.dtype(self.dtype),
        }

    def _checked(self, model: Any) -> Any:
        """The model, if its sizes fit each other."""
        if self.length % model.downsample_factor:
            multiple = model.downsample_factor
            raise InputError(
                f"length {self.length} is not a multiple of {multiple} (samples per frame of the latent): "
                f"use {-(-self.length // multiple) * multiple}"
            )
        batch = {"audio": jax.ShapeDtypeStruct((1, self.length, self.channels), jnp.float32)}
        keys = jax.eval_shape(lambda: jax.random.key(0))
        variables = jax.eval_shape(model.init, keys, batch)
        for loss, _ in model.losses:
            jax.eval_shape(loss, variables, keys, batch)
        return model


@dataclass(frozen=True)
class AutoEncoderConfig(_AutoEncoderConfig):
    """An autoencoder of sound."""

    waveform: float = 1.0
    """Weight of the mean absolute difference of samples."""
    stft: float = 0.0
    """Weight of the multi-resolution STFT loss."""
    mel: float = 0.0
    """Weight of the log-mel loss."""
    windows: tuple[int, ...] = WINDOWS
    """Windows of these two in samples, multiples of 4."""
    discriminator: CoderConfig | None = None
    """A discriminator trained along, or None."""
    adversarial: float = 1.0
    """Weight of the loss that it gives."""

    def build(self) -> AutoEncoder:
        """The model.

        Raises:
            InputError: settings that do not fit each other.
        """
        judge = self.discriminator
        weights = {name: getattr(self, name) for name in ("waveform", "stft", "mel", "windows", "adversarial")}
        model = AutoEncoder(
            AutoEncoder1d(**self._settings()),
            sample_rate=self.sample_rate,
            discriminator=None if judge is None else Discriminator1d(Encoder1d(**judge.settings())),
            **weights,
        )
        return self._checked(model)


@dataclass(frozen=True)
class MagnitudeAutoEncoderConfig(_AutoEncoderConfig):
    """An autoencoder of an STFT's magnitudes; what it decodes is made sound by Griffin-Lim."""

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
        return self._checked(MagnitudeAutoEncoder(MAE1d(**self._settings(), stft=stft)))


KINDS: dict[str, type] = {
    "diffusion": DiffusionConfig,
    "autoencoder": AutoEncoderConfig,
    "magnitude_autoencoder": MagnitudeAutoEncoderConfig,
}


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
