"""State_dicts as people have them: their files, what stands around a model's own names in them, and their settings."""

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
T5 = "blocks.0.transformer."  # where the text plugin holds its encoder
ADVICE = "load it with PyTorch where you trust it and save its state_dict as .safetensors"


def read_state(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name, or of a folder in Hugging Face's layout; floats as float32.

    .safetensors are read directly; .bin, .pt, .pth and .ckpt by PyTorch (the extra `torch`), weights only: nothing in
    them is executed. Of a Lightning checkpoint it is what lies under "state_dict".

    Raises:
        InputError: no such file, another format, damaged, or more than tensors in it.
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
        raise InputError(f"{path} is not known by its suffix: .safetensors, {', '.join(TORCH)} or a folder is needed")
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
            f"{path.name} is read by PyTorch, which is not installed: pip install 'archijax[torch]', or {ADVICE}"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as weights alone ({reason}): {ADVICE}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}: a state_dict is needed")
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in tensors.items()
    }


def read_archisound(folder: Path) -> AutoEncoderConfig | None:
    """The configuration of an archisound autoencoder's config.json, or None if the folder holds no such thing.

    Known is the layout of autoencoder1d-AT-v1: audio-encoders-pytorch's settings beside Hugging Face's own.

    Raises:
        InputError: it is an archisound model of another layout, or its settings are not possible.
    """
    path = folder / "config.json"
    if not folder.is_dir() or not path.is_file():
        return None
    settings = read_json(path)
    kind = settings.get("model_type")
    levels = ("channels", "multipliers", "factors", "num_blocks", "patch_size")
    if not all(name in settings for name in (*levels, "in_channels")):
        if isinstance(kind, str) and kind.startswith("archinetai/"):
            raise InputError(f"{path} is of {kind!r}, whose layout is not known: describe the model with --config")
        return None
    bottleneck = settings.get("bottleneck") or ()
    kinds = (bottleneck,) if isinstance(bottleneck, str) else tuple(bottleneck)
    if set(kinds) - {"tanh"}:
        raise InputError(f"{path} has the bottleneck {bottleneck!r}: only 'tanh' is known, describe it with --config")
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
        raise InputError(f"{path} holds settings of another type than audio-encoders-pytorch's ({error})") from error


@dataclasses.dataclass(frozen=True)
class Found:
    """What of a state_dict belongs to a model.

    Attributes:
        state: its tensors by the names of the model's table.
        prefix: what stood before the names.
        ignored: names outside the prefix, such as another copy of the weights.
        text_encoder: names of a T5 inside, whose weights come from its own place.
    """

    state: dict[str, np.ndarray]
    prefix: str
    ignored: tuple[str, ...]
    text_encoder: tuple[str, ...]


def find(tables: Sequence[Sequence[Entry]], state: Mapping[str, np.ndarray]) -> tuple[Sequence[Entry], Found]:
    """The table that fits a state_dict best, and what of it the table names.

    A trainer's prefix is found by the names behind it; of several copies the moving average ("ema_model") is taken,
    else the one with the shortest prefix. Text conditioning's plugin and its T5 are taken out of the names.

    Raises:
        InputError: none of the names is there.
    """
    named, encoder = _without_text(state)
    best = None
    for table in tables:
        wanted = {name for entry in table for name in entry.names}
        # Names that are long enough to be no other's end.
        anchors = sorted(wanted, key=len)[-20:]
        for prefix in {key[: -len(a)] for key in named for a in anchors if key.endswith(a)}:
            if prefix and not prefix.endswith("."):
                continue
            covered = sum(prefix + name in named for name in wanted)
            rank = (covered / len(wanted), "ema_model." in prefix, -len(prefix))
            if best is None or rank > best[0]:
                own = {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}
                ignored = tuple(sorted(key for key in named if not key.startswith(prefix)))
                best = rank, table, Found(own, prefix, ignored, encoder)
    if best is None:
        example = min(state, default="nothing")
        raise InputError(
            f"none of the {len(state)} tensors ({example} ...) has a name of this model: is the configuration that of "
            "these weights?"
        )
    return best[1], best[2]


def _without_text(state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """(the state with the names that it would have without the text plugin, the names of the plugin's T5)."""
    encoder = tuple(sorted(key for key in state if T5 in key))
    places = sorted({key.split(T5)[0] + "blocks.1." for key in encoder}, key=len, reverse=True)
    named = {}
    for key in state.keys() - set(encoder):
        place = next((place for place in places if key.startswith(place)), "")
        named[place.removesuffix("blocks.1.") + key.removeprefix(place)] = state[key]
    return named, encoder
