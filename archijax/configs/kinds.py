"""Contains the kinds of model configurations, and functions that convert configurations to and from config.json."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

from archijax.configs.autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from archijax.configs.autoregressive import AutoregressiveConfig
from archijax.configs.diffusion import DiffusionConfig, UpsamplerConfig, VocoderConfig
from archijax.configs.latents import DiffusionAEConfig, LatentConfig
from archijax.configs.oobleck import OobleckConfig
from archijax.configs.stable_audio import StableAudioConfig
from archijax.contract import Model
from archijax.errors import InputError

KINDS: dict[str, type] = {
    "diffusion": DiffusionConfig,
    "autoregressive": AutoregressiveConfig,
    "upsampler": UpsamplerConfig,
    "vocoder": VocoderConfig,
    "diffusion_autoencoder": DiffusionAEConfig,
    "latent": LatentConfig,
    "autoencoder": AutoEncoderConfig,
    "magnitude_autoencoder": MagnitudeAutoEncoderConfig,
    "oobleck": OobleckConfig,
    "stable_audio": StableAudioConfig,
}


def kind_of(config: Any) -> str:
    """Returns the kind of a configuration, a key of :data:`KINDS` such as "diffusion".

    If the class of the configuration is not in KINDS, the kind is the name of the class.
    """
    return next((kind for kind, cls in KINDS.items() if type(config) is cls), type(config).__name__)


def build(config: Any) -> Model:
    """Builds the model of a configuration, and checks the result of ``config.build()``.

    Raises InputError if settings do not fit each other, or ``config.build()`` returns no model.
    """
    model = config.build()
    if not isinstance(model, Model):
        name = type(config).__name__
        raise InputError(
            f"{name}.build() returned {model!r:.40}, which is no model: a model has the methods init and loss"
        )
    return model


def check_config(config: Any) -> None:
    """Raises InputError unless the configuration is a dataclass with all members of
    :class:`archijax.contract.ModelConfig`."""
    needed = ("sample_rate", "channels", "length", "text", "autoencoder", "conditioners", "build", "load_frozen")
    missing = [name for name in needed if not hasattr(config, name)]
    if missing or not dataclasses.is_dataclass(config):
        reason = f"lacks {', '.join(missing)}" if missing else "is no dataclass"
        raise InputError(
            f"{type(config).__name__} {reason}: a configuration is a frozen dataclass, and a subclass of ModelConfig"
        )


def to_dict(config: Any) -> dict[str, Any]:
    """Turns a model configuration into nested dicts for JSON. The entry "kind" is the result of :func:`kind_of`.

    Raises InputError if ``config`` is not a model configuration.
    """
    if not (dataclasses.is_dataclass(config) and hasattr(config, "build")):
        raise InputError(f"{type(config).__name__} is not a model configuration: known are {', '.join(KINDS)}")
    return {"kind": kind_of(config), **dataclasses.asdict(config)}


def from_dict(values: dict[str, Any], own: type | None = None) -> Any:
    """Restores a model configuration from the result of :func:`to_dict`.

    The entry "kind" of ``values`` selects the class, which is in :data:`KINDS` or is ``own``. Other configurations,
    such as a CoderConfig, are restored only as parts of a model configuration.

    Args:
        values: the result of :func:`to_dict`.
        own: a class that is not in :data:`KINDS`, for an entry "kind" that is the name of this class.

    Raises:
        InputError: a kind or a setting is unknown, a setting is missing, or a value has another type.
    """
    kind = values.get("kind") if isinstance(values, dict) else values
    kinds = KINDS if own is None else {own.__name__: own, **KINDS}
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(
            f"the model's kind is {kind!r}: known are {', '.join(kinds)}; a kind that a config file defines needs "
            "--config FILE"
        )
    rest = {name: value for name, value in values.items() if name != "kind"}
    return _read(kinds[kind], rest, kind)


def _read(expected: Any, value: Any, name: str) -> Any:
    """Returns a value from JSON, converted to the expected type."""
    origin, args = typing.get_origin(expected), typing.get_args(expected)
    if dataclasses.is_dataclass(expected) and isinstance(value, dict):
        types_of = typing.get_type_hints(expected)
        hints = {f.name: types_of[f.name] for f in dataclasses.fields(expected)}
        if unknown := sorted(value.keys() - hints.keys()):
            raise InputError(f"{name} has the unknown setting {unknown[0]!r}: it takes {', '.join(hints)}")
        for f in dataclasses.fields(expected):
            if f.default is f.default_factory is dataclasses.MISSING and f.name not in value:
                raise InputError(f"{name} lacks the setting {f.name!r}")
        return expected(**{key: _read(hints[key], inner, f"{name}.{key}") for key, inner in value.items()})
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        if isinstance(value, dict):
            # The configuration is the one that has all these settings.
            kinds = [kind for kind in kinds if value.keys() <= {f.name for f in dataclasses.fields(kind)}] or kinds
        return _read(kinds[0], value, name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(args[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is Literal and value in args:
        return value
    if expected is float and type(value) in (int, float):
        return float(value)
    if origin is None and type(value) is expected:
        return value
    raise InputError(f"{name} is {value!r}: {getattr(expected, '__name__', expected)} is needed")
