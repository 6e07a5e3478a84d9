"""Models as folders to share: config.json, the weights as safetensors, and a model card.

    save_pretrained("pads", config, variables, Facts(loudness=-14.0, step=5000))
    pipeline = from_pretrained("pads")  # or its name on the Hugging Face hub

A folder holds arrays and text, nothing that is executed. A text encoder that the configuration names
(`TextConfig.tokenizer` other than "bytes") is not in it: both its weights and its tokenizer are loaded by that name,
so a folder to share names one on the hub. The tokenizer "bytes" needs no files, and its encoder is in the folder.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.atomic import replacing
from archijax.configs import build, example_batch, from_dict, to_dict
from archijax.errors import InputError, listed
from archijax.hub import (
    WEIGHT_FILES,
    absent,
    is_hub_name,
    pretrained_folder,
    read_json,
    read_weights,
)
from archijax.pipeline import Pipeline
from archijax.pipeline.facts import Facts
from archijax.pretrained.card import card

# The name among the variables of a text encoder that the configuration names.
ENCODER = ("frozen", "embedder")


def save_pretrained(
    folder: str | Path,
    config: Any,
    variables: Mapping[str, Any],
    facts: Facts = Facts(),
    *,
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a model to a new folder, which appears when it is complete.

    Args:
        folder: it must not exist, or be empty; its name becomes the title of the model card.
        config: what `config.build()` makes the model of.
        variables: the model's collections.
        facts: for config.json and the model card.
        shard_bytes: weights larger than that are split into several files, with an index.

    Raises:
        InputError: the folder holds something already, or the variables are not those of this configuration.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    check_new(folder)
    settings = {"model": to_dict(config), **dataclasses.asdict(facts)}
    _read_facts({**settings}, "facts")
    tensors = flatten_dict(dict(variables), sep=".")
    if _names_encoder(config):
        tensors = {name: leaf for name, leaf in tensors.items() if not name.startswith(".".join(ENCODER) + ".")}
    _compare(_expected(config, build(config)), tensors, "the variables do not fit the configuration")
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "config.json").write_text(json.dumps(settings, indent=2, allow_nan=False) + "\n")
        _write_weights(unfinished, tensors, shard_bytes)
        count = sum(math.prod(leaf.shape) for leaf in tensors.values())
        (unfinished / "README.md").write_text(card(folder.absolute().name, config, facts, count))


def load_folder(name: str | Path, revision: str | None = None, own: type | None = None) -> Pipeline:
    """The model that :func:`save_pretrained` wrote to a folder, or to one on the Hugging Face hub.

    Args and errors are those of :func:`archijax.from_pretrained`; own is the class of its config, if it is no kind.
    """
    folder = pretrained_folder(name, revision, WEIGHT_FILES)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(absent(name, folder, WEIGHT_FILES))
    settings = read_json(path)
    facts = _read_facts(settings, path)
    try:
        config = from_dict(settings["model"], own)
        # Of a stranger's model: it must not have folders of this machine read.
        if _names_encoder(config) and not (Path(name).is_dir() or is_hub_name(config.text.tokenizer)):
            raise InputError(f"its text encoder {config.text.tokenizer!r} is not the name of a model on the hub")
        model = build(config)
        expected = _expected(config, model)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # sizes that nobody thought of fail anywhere
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path} describes a model that cannot be built ({reason})") from error
    tensors = read_weights(name, folder)
    _compare(expected, tensors, f"the weights in {folder} do not fit its config.json")
    nested = unflatten_dict(tensors, sep=".")
    variables = {collection: nested.get(collection, {}) for collection in ("params", "frozen", "state")}
    variables["frozen"] = {**variables["frozen"], **config.load_frozen()}
    return Pipeline(config, model, variables, facts)


def check_new(folder: Path) -> None:
    """Raises InputError if a folder to be made holds something already, before the work of making it."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already: a new or an empty folder is needed")


def _names_encoder(config: Any) -> bool:
    return config.text is not None and config.text.is_pretrained


def _expected(config: Any, model: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of every tensor that a folder holds, by name."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    flat = flatten_dict(jax.eval_shape(model.init, key, example_batch(config)))
    return {
        ".".join(path): leaf
        for path, leaf in flat.items()
        if not (_names_encoder(config) and path[: len(ENCODER)] == ENCODER)
    }


def _compare(expected: Mapping[str, Any], tensors: Mapping[str, Any], what: str) -> None:
    """Raises InputError, naming them, if tensors are missing, left over, or of another shape or type."""
    other = [
        f"{name} is {tensors[name].dtype} {list(tensors[name].shape)} instead of {leaf.dtype} {list(leaf.shape)}"
        for name, leaf in sorted(expected.items())
        if name in tensors and (tensors[name].shape, tensors[name].dtype) != (leaf.shape, leaf.dtype)
    ]
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{word}{listed(names)}"
        for word, names in {"missing ": missing, "left over ": extra, "": other}.items()
        if names
    ]
    if wrong:
        raise InputError(f"{what}: {'; '.join(wrong)}")


def _read_facts(settings: dict[str, Any], where: Any) -> Facts:
    """The facts among the contents of a config.json. Raises InputError for what is unknown or of another type."""
    known = ["model", *(field.name for field in dataclasses.fields(Facts))]
    if "model" not in settings:
        raise InputError(f"{where} describes no model of this library: it lacks 'model'")
    if unknown := sorted(settings.keys() - set(known)):
        raise InputError(f"{where} has the unknown setting {unknown[0]!r}: it takes {', '.join(known)}")
    loudness, step = settings.get("loudness"), settings.get("step")
    metrics = settings.get("metrics", {})
    if not (loudness is None or _is_finite(loudness)):
        raise InputError(f"{where} says the loudness is {loudness!r}: a number of dBFS is needed, or null")
    if not (step is None or (type(step) is int and step >= 0)):
        raise InputError(f"{where} says the step is {step!r}: a whole number from 0 is needed, or null")
    if not isinstance(metrics, Mapping) or not all(map(_is_finite, metrics.values())):
        raise InputError(f"{where} has metrics that are not finite numbers by name")
    return Facts(loudness, step, dict(metrics))


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


def _write_weights(folder: Path, tensors: Mapping[str, Any], shard_bytes: int) -> None:
    from safetensors.numpy import save_file

    shards, size = [[]], 0
    for name in sorted(tensors):
        bytes_ = math.prod(tensors[name].shape) * tensors[name].dtype.itemsize
        if shards[-1] and size + bytes_ > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += bytes_
    single = len(shards) == 1
    files, total = {}, 0
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        # safetensors writes an array that is not contiguous as if it were.
        arrays = {name: np.require(tensors[name], requirements="C") for name in names}
        save_file(arrays, folder / file, {"format": "flax"})
        # safetensors makes files that only their owner may read.
        (folder / file).chmod((folder / "config.json").stat().st_mode)
        files |= dict.fromkeys(names, file)
        total += sum(array.nbytes for array in arrays.values())
    if not single:
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
