"""The kinds of models, and their configurations in config.json."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal

from archijax.configs.autoencoder import AutoEncoderConfig, MagnitudeAutoEncoderConfig
from archijax.configs.diffusion import DiffusionAEConfig, DiffusionConfig, LatentConfig, UpsamplerConfig, VocoderConfig
from archijax.configs.oobleck import OobleckConfig
from archijax.configs.stable_audio import StableAudioConfig
from archijax.errors import InputError

KINDS: dict[str, type] = {
    "diffusion": DiffusionConfig,
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
    """The kind of a configuration; of a user's own class its name."""
    return next((kind for kind, cls in KINDS.items() if type(config) is cls), type(config).__name__)


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
        known = typing.get_type_hints(wanted)
        hints = {f.name: known[f.name] for f in dataclasses.fields(wanted)}
        if unknown := sorted(value.keys() - hints.keys()):
            raise InputError(f"{name} has the unknown setting {unknown[0]!r}: it takes {', '.join(hints)}")
        for f in dataclasses.fields(wanted):
            if f.default is dataclasses.MISSING and f.name not in value:
                raise InputError(f"{name} lacks the setting {f.name!r}")
        return wanted(**{key: _read(hints[key], inner, f"{name}.{key}") for key, inner in value.items()})
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        if isinstance(value, dict):
            # Of several configurations the one that has all these settings.
            kinds = [kind for kind in kinds if value.keys() <= {f.name for f in dataclasses.fields(kind)}] or kinds
        return _read(kinds[0], value, name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_read(args[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is Literal and value in args:
        return value
    if wanted is float and type(value) in (int, float):
        return float(value)
    if origin is None and type(value) is wanted:
        return value
    raise InputError(f"{name} is {value!r}: {getattr(wanted, '__name__', wanted)} is needed")
