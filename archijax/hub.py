"""Finds the folders of pretrained models, and reads files in these folders. The files are not trusted."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from archijax.errors import InputError

WEIGHT_FILES = ["config.json", "model*.safetensors", "model.safetensors.index.json"]

_PART = r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"  # without two points in a row


def is_hub_name(name: str | Path) -> bool:
    """Returns whether a name has the form of a name on the Hugging Face hub, such as "google/flan-t5-base"."""
    return re.fullmatch(f"{_PART}(/{_PART})?", str(name)) is not None


def pretrained_folder(name: str | Path, revision: str | None, files: list[str]) -> Path:
    """Returns the folder of a pretrained model: `name` if `name` is a folder, else a snapshot from the Hugging Face
    hub.

    Args:
        name: a folder, or a hub name such as "google/flan-t5-base". Without a network, the model must be in the local
            cache.
        revision: a branch, tag or commit on the hub; None: the main branch.
        files: the names of the files to download. The names can have wildcards, such as "model*.safetensors".

    Raises:
        InputError: `name` is neither a folder nor a hub name, or the model is neither in the cache nor on the hub.
    """
    if str(name) and Path(name).is_dir():
        return Path(name)
    if not is_hub_name(name):
        raise InputError(f"model {str(name)!r} is neither an existing folder nor a name on the Hugging Face hub")
    if revision is not None and not re.fullmatch(f"{_PART}(/{_PART})*", revision):
        raise InputError(f"revision {revision!r} is not the name of a branch, tag or commit")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=files))
    except Exception as error:  # the hub's HTTP library raises its own errors
        if type(error).__name__ == "GatedRepoError":
            raise InputError(
                f"model {str(name)!r} needs its licence to be accepted: do so at https://huggingface.co/{name} and log "
                "in by 'hf auth login'"
            ) from error
        reason = re.split(r"\.\s|\n", str(error).strip())[0]
        raise InputError(
            f"there is no folder {str(name)!r}, and {absent(name, 'the local cache', files)} ({reason})"
        ) from error


def part(folder: Path, name: str) -> Path:
    """Returns the subfolder ``name`` (such as "tokenizer") if ``folder`` has the layout of diffusers, else
    ``folder``."""
    return folder / name if (folder / "model_index.json").is_file() and (folder / name).is_dir() else folder


def absent(name: str | Path, place: str | Path, files: list[str]) -> str:
    """Returns an error message for a model ``name`` that is not complete in ``place``. The message says which ``files``
    are needed."""
    source = "its source" if Path(name).is_dir() else f"https://huggingface.co/{name}"
    advice = f"get {', '.join(files)} from {source} into one folder and use that folder as the model"
    return f"model {str(name)!r} is not complete in {place}: {advice}"


def weight_files(name: str | Path, folder: Path, stem: str = "model") -> list[Path]:
    """Returns the paths of the safetensors files in a folder: STEM.safetensors, or the shards that
    STEM.safetensors.index.json lists. ``name`` is the name of the model in error messages.

    Raises:
        InputError: files are missing, or the index names files outside of the folder.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        pickled = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".ckpt", ".pt"))
        hint = f" ({'/'.join(pickled[:1])} is not read: save_pretrained in PyTorch converts it to safetensors)"
        raise InputError(
            absent(name, folder, ["config.json", f"{stem}*.safetensors", index.name]) + hint * bool(pickled)
        )
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{index} has no weight_map: it must name the file of every tensor")
    for shard in shards.values():
        # The index is not trusted. It must not name files outside of the folder.
        if not isinstance(shard, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors", shard):
            raise InputError(f"{index} names the file {shard!r}: it must be a .safetensors file in the same folder")
    paths = [folder / shard for shard in sorted(set(shards.values()))]
    if lacking := [path.name for path in paths if not path.is_file()]:
        raise InputError(absent(name, folder, lacking))
    return paths


def read_json(path: Path) -> dict[str, Any]:
    """Returns the dict in a JSON file. Raises InputError if the file does not contain a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} has a {type(content).__name__}: it must be a JSON object")
    return content


def read_weights(name: str | Path, folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Returns a dict from names to all tensors of a model. The tensors are read from one safetensors file, or from
    shards with an index.

    Args:
        name: the name of the model in error messages.
        folder: the folder of the files.
        leave_out: prefixes of names. Tensors whose names begin with one of these prefixes are ignored.

    Raises:
        InputError: files are missing or damaged, or the index names files outside of the folder.
    """
    return {
        key: value for path in weight_files(name, folder) for key, value in read_safetensors(path, leave_out).items()
    }


def read_safetensors(path: Path, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Returns {name: tensor} for one safetensors file. :func:`read_weights` explains ``leave_out`` and the errors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if not name.startswith(leave_out)]  # noqa: SIM118  the file is no dict
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})") from error
    except AttributeError as error:  # numpy lacks types of eight bits and fewer
        raise InputError(f"{path} has numbers of a type that numpy lacks ({error})") from error
