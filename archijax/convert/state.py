"""Reads state_dicts from files in several formats, finds the tensors of a model in a state_dict, and reads archisound
settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from archijax.configs import AutoEncoderConfig, CoderConfig, TanhConfig
from archijax.convert.table import Entry
from archijax.errors import InputError
from archijax.hub import read_json, read_safetensors, read_weights

TORCH = (".bin", ".pt", ".pth", ".ckpt")
T5 = "blocks.0.transformer."  # the name of the encoder in the text plugin
ADVICE = "if you trust it, load it with PyTorch and save its state_dict as .safetensors"


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Returns a dict from names to tensors, read from a file or from a folder in the layout of Hugging Face. Floats
    become float32.

    PyTorch (the extra `torch`) reads .bin, .pt, .pth and .ckpt files with weights_only, so the files cannot run code.
    For a Lightning checkpoint, the result is the entry "state_dict" of the checkpoint.

    Raises:
        InputError: the file does not exist, has an unknown format, is damaged, or contains code.
    """
    if path.is_dir():
        old = path / "pytorch_model.bin"
        state = _read_torch(old) if old.is_file() and not _has_safetensors(path) else read_weights(path, path)
    elif not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder")
    elif path.suffix == ".safetensors":
        state = read_safetensors(path)
    elif path.suffix in TORCH:
        state = _read_torch(path)
    else:
        raise InputError(f"{path} has an unknown suffix: it must be .safetensors, {', '.join(TORCH)} or a folder")
    return {
        name: array.astype(np.float32) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array
        for name, array in state.items()
    }


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("model*.safetensors"))


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path.name} needs PyTorch, which is not installed: pip install 'archijax[torch]', or {ADVICE}"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as weights alone ({reason}): {ADVICE}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} is a {type(content).__name__}, not a state_dict")
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in tensors.items()
    }


def read_archisound(folder: Path) -> AutoEncoderConfig | None:
    """Reads the configuration of an archisound autoencoder. Returns None if the folder has no config.json of
    archisound.

    The folder must have the layout of autoencoder1d-AT-v1, whose config.json mixes settings of audio-encoders-pytorch
    and Hugging Face.

    Raises:
        InputError: the folder has an archisound model with another layout, or a setting is not supported.
    """
    path = folder / "config.json"
    if not folder.is_dir() or not path.is_file():
        return None
    settings = read_json(path)
    kind = settings.get("model_type")
    levels = ("channels", "multipliers", "factors", "num_blocks", "patch_size")
    if not all(name in settings for name in (*levels, "in_channels")):
        if isinstance(kind, str) and kind.startswith("archinetai/"):
            raise InputError(f"{path} is of {kind!r}, whose layout is unknown: describe the model with --config")
        return None
    bottleneck = settings.get("bottleneck") or ()
    kinds = (bottleneck,) if isinstance(bottleneck, str) else tuple(bottleneck)
    if set(kinds) - {"tanh"}:
        raise InputError(
            f"{path} has the bottleneck {bottleneck!r}: only 'tanh' is known: describe the model with --config"
        )
    try:
        lists = {name: tuple(map(int, settings[name])) for name in ("multipliers", "factors", "num_blocks")}
        numbers = {name: int(settings[name]) for name in ("channels", "patch_size")}
        width = settings.get("bottleneck_channels")
        return AutoEncoderConfig(
            coder=CoderConfig(**numbers, **lists, resnet_groups=int(settings.get("resnet_groups", 8))),
            bottleneck=tuple(TanhConfig() for _ in kinds),
            latent_channels=None if width is None else int(width),
            sample_rate=int(settings.get("sample_rate", 48_000)),
            channels=int(settings["in_channels"]),
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} has settings of another type than those of audio-encoders-pytorch ({error})"
        ) from error


@dataclasses.dataclass(frozen=True)
class Found:
    """Holds the tensors of a model that are in a state_dict, and the names of the other tensors.

    Attributes:
        state: the model's tensors, by their names without the prefix.
        prefix: the text that precedes the names of the model's tensors in the state_dict.
        ignored: the names in the state_dict without the prefix, such as the names of another copy of the weights.
        text_encoder: names in the state_dict that belong to a T5. The T5 is loaded from another folder.
    """

    state: dict[str, np.ndarray]
    prefix: str
    ignored: tuple[str, ...]
    text_encoder: tuple[str, ...]


def find(tables: Sequence[Sequence[Entry]], state: Mapping[str, np.ndarray]) -> tuple[Sequence[Entry], Found]:
    """Returns (the table that fits a state_dict best, the tensors of the model as :class:`Found`). The tables are
    results of :func:`archijax.convert.entries`.

    Names in the state_dict can begin with a prefix that a trainer added. If there are several copies of the weights,
    the result is the moving average ("ema_model"), or else the copy with the shortest prefix. If the original model has
    a text plugin, the plugin's prefix is removed from all names, and the names of the plugin's T5 are left out.

    Raises:
        InputError: the tables and the state_dict have no name in common.
    """
    named, encoder = _without_text(state)
    best = None
    for table in tables:
        names = {name for entry in table for name in entry.names}
        # Long names are unlikely to be the end of other names.
        anchors = sorted(names, key=len)[-20:]
        for prefix in {key[: -len(a)] for key in named for a in anchors if key.endswith(a)}:
            if prefix and not prefix.endswith("."):
                continue
            covered = sum(prefix + name in named for name in names)
            rank = (covered / len(names), "ema_model." in prefix, -len(prefix))
            if best is None or rank > best[0]:
                own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
                ignored = tuple(sorted(key for key in named if not key.startswith(prefix)))
                best = rank, table, Found(own, prefix, ignored, encoder)
    if best is None:
        example = min(state, default="nothing")
        raise InputError(
            f"none of the {len(state)} tensors ({example} ...) has a name of this model: use the configuration of "
            "these weights"
        )
    return best[1], best[2]


def _without_text(state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Removes the text plugin from the names of a state_dict. Returns (the state_dict, the names of the plugin's
    T5)."""
    encoder = tuple(sorted(key for key in state if T5 in key))
    plugins = sorted({key.split(T5)[0] + "blocks.1." for key in encoder}, key=len, reverse=True)
    named = {}
    for key in state.keys() - set(encoder):
        plugin = next((plugin for plugin in plugins if key.startswith(plugin)), "")
        named[plugin.removesuffix("blocks.1.") + key.removeprefix(plugin)] = state[key]
    return named, encoder
