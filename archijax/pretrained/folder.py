"""Writes and loads model folders, which contain config.json, the weights as safetensors, and a model card.

    save_pretrained("pads", config, variables, Facts(loudness=-14.0, step=5000))
    pipeline = from_pretrained("pads")  # or the folder's name on the Hugging Face hub

A model folder contains arrays and text, but no code. If the configuration names a pretrained text encoder
(`TextConfig.tokenizer` other than "bytes" and "words"), the folder contains neither the tokenizer nor the weights of
the encoder. Both are loaded by the name of the encoder in the configuration. To share a folder, use an encoder with a
name on the hub. The tokenizers "bytes" and "words" need no files, and the weights of their encoders are in the folder.
The folder of a latent model can contain the name of another model in place of the autoencoder. Several models can thus
share one autoencoder.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.atomic import replacing
from archijax.configs import build, example_batch, from_dict, to_dict
from archijax.contract import Variables
from archijax.errors import InputError, listed
from archijax.hub import WEIGHT_FILES, absent, is_hub_name, pretrained_folder, read_json, read_weights
from archijax.pipeline import Pipeline
from archijax.pipeline.facts import Facts
from archijax.pretrained.card import card

# These parts of the variables can be loaded from other folders.
ENCODER, AUTOENCODER = ("frozen", "embedder"), ("frozen", "autoencoder")


def save_pretrained(
    folder: str | Path,
    config: Any,
    variables: Mapping[str, Any],
    facts: Facts = Facts(),
    *,
    half: bool = False,
    shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes a model to a new folder. The folder has a temporary name until all files are written.

    Args:
        folder: a new or empty folder. The name of the folder becomes the title of the model card.
        config: the configuration of the model.
        variables: the collections of the model, such as ``pipeline.variables``, or the result of
            ``config.build().init(key, archijax.configs.example_batch(config))``.
        facts: facts about the training, for config.json and the model card, such as ``pipeline.facts`` or
            ``archijax.pipeline.facts.Facts(step=5000)``. If the facts name an autoencoder, the variables of the
            autoencoder are not written.
        half: whether to write the weights as float16, which halves the size. Loading converts the weights back to
            float32.
        shard_bytes: the largest size in bytes of a file with weights. Larger models get several files and an index.

    Raises:
        InputError: the folder is not empty, the variables do not fit the configuration, or a weight is too large for
            float16.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    check_new(folder)
    settings = {"model": to_dict(config), **dataclasses.asdict(facts)}
    _read_facts({**settings}, "facts")
    elsewhere = _elsewhere(config, facts)
    tensors = {
        ".".join(path): leaf for path, leaf in flatten_dict(dict(variables)).items() if path[:2] not in elsewhere
    }
    _compare(_expected(config, build(config), elsewhere), tensors, "the variables do not fit the configuration")
    if half:
        tensors = {name: _halved(name, leaf) for name, leaf in tensors.items()}
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / "config.json").write_text(json.dumps(settings, indent=2, allow_nan=False) + "\n")
        _write_weights(unfinished, tensors, shard_bytes)
        count = sum(math.prod(leaf.shape) for leaf in tensors.values())
        (unfinished / "README.md").write_text(card(folder.absolute().name, config, facts, count))


def load_folder(
    name: str | Path,
    revision: str | None = None,
    own: type | None = None,
    *,
    load: Callable[[str], Pipeline] | None = None,
) -> Pipeline:
    """Loads a model that :func:`save_pretrained` wrote, from a local folder or from the Hugging Face hub.

    :func:`archijax.from_pretrained` explains the other arguments and the errors.

    Args:
        own: a configuration class that the user has defined; None: a class of `archijax.configs`.
        load: a function that loads the autoencoder of a latent model by name, such as :func:`archijax.from_pretrained`.
    """
    folder = pretrained_folder(name, revision, WEIGHT_FILES)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(absent(name, folder, WEIGHT_FILES))
    settings = read_json(path)
    facts = _read_facts(settings, path)
    try:
        config = from_dict(settings["model"], own)
        # A model from the hub must not make us read folders of this machine.
        named = {"text encoder": config.text.tokenizer} if _names_encoder(config) else {}
        named |= {} if facts.autoencoder is None else {"autoencoder": facts.autoencoder}
        for part, other in named.items():
            if not (Path(name).is_dir() or is_hub_name(other)):
                raise InputError(f"its {part} {other!r} is not the name of a model on the hub")
        model = build(config)
        expected = _expected(config, model, _elsewhere(config, facts))
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # impossible sizes can fail anywhere
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path} describes a model that cannot be built ({reason})") from error
    tensors = {key: _whole(leaf, expected.get(key)) for key, leaf in read_weights(name, folder).items()}
    _compare(expected, tensors, f"the weights in {folder} do not fit its config.json")
    nested = unflatten_dict(tensors, sep=".")
    variables = {collection: nested.get(collection, {}) for collection in ("params", "frozen", "state")}
    variables["frozen"] = {**variables["frozen"], **config.load_frozen()}
    if facts.autoencoder is not None:
        variables["frozen"]["autoencoder"] = _autoencoder(
            config,
            load(facts.autoencoder),  # pyrefly: ignore [not-callable]  from_pretrained passes it
            path,
        )
    return Pipeline(config, model, variables, facts)


def check_new(folder: Path) -> None:
    """Raises InputError if the folder exists and is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty: use a new or an empty folder")


def _names_encoder(config: Any) -> bool:
    return config.text is not None and config.text.is_pretrained


def _elsewhere(config: Any, facts: Facts) -> list[tuple[str, str]]:
    """Returns the paths of the variables that a model folder lacks because they are loaded from another model."""
    return [ENCODER] * _names_encoder(config) + [AUTOENCODER] * (facts.autoencoder is not None)


def _autoencoder(config: Any, other: Pipeline, path: Path) -> Variables:
    """Returns the variables of ``other``. Raises InputError if ``config.autoencoder`` is not the configuration of
    ``other``."""
    if config.autoencoder is None or to_dict(other.config) != to_dict(config.autoencoder):
        raise InputError(f"{path} names an autoencoder whose settings differ from its model.autoencoder")
    return other.variables


def _expected(config: Any, model: Any, elsewhere: list[tuple[str, str]]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns a dict from the name of each tensor in a model folder to its shape and type."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    flat = flatten_dict(jax.eval_shape(model.init, key, example_batch(config)))
    return {".".join(path): leaf for path, leaf in flat.items() if path[:2] not in elsewhere}


def _halved(name: str, leaf: Any) -> np.ndarray:
    """Converts a float32 tensor to float16. Other types stay unchanged. Raises InputError if a value is too large for
    float16."""
    leaf = np.asarray(leaf)
    if leaf.dtype != np.float32:
        return leaf
    largest = np.abs(leaf).max(initial=0.0)
    if not largest <= np.finfo(np.float16).max:
        raise InputError(f"{name} has the value {largest:g}, which is too large for float16: save it without half")
    return leaf.astype(np.float16)


def _whole(leaf: np.ndarray, expected: Any) -> np.ndarray:
    """Converts a tensor back to the type that it had before :func:`_halved`."""
    halved = expected is not None and (leaf.dtype, expected.dtype) == (np.float16, np.float32)
    return leaf.astype(np.float32) if halved else leaf


def _compare(expected: Mapping[str, Any], tensors: Mapping[str, Any], problem: str) -> None:
    """Raises InputError if tensors are missing or unknown, or have a wrong shape or type. The message names the
    tensors."""
    other = [
        f"{name} is {tensors[name].dtype} {list(tensors[name].shape)} instead of {leaf.dtype} {list(leaf.shape)}"
        for name, leaf in sorted(expected.items())
        if name in tensors and (tensors[name].shape, tensors[name].dtype) != (leaf.shape, leaf.dtype)
    ]
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    wrong = [
        f"{word}{listed(names)}" for word, names in {"missing ": missing, "unknown ": extra, "": other}.items() if names
    ]
    if wrong:
        raise InputError(f"{problem}: {'; '.join(wrong)}")


def _read_facts(settings: dict[str, Any], path: Any) -> Facts:
    """Reads the facts from a parsed config.json. Raises InputError for an unknown setting or a wrong type."""
    known = ["model", *(field.name for field in dataclasses.fields(Facts))]
    if "model" not in settings:
        raise InputError(f"{path} describes no model of this library: it lacks 'model'")
    if unknown := sorted(settings.keys() - set(known)):
        raise InputError(f"{path} has the unknown setting {unknown[0]!r}: it takes {', '.join(known)}")
    loudness, step, autoencoder = (settings.get(name) for name in ("loudness", "step", "autoencoder"))
    metrics = settings.get("metrics", {})
    if not (loudness is None or _is_finite(loudness)):
        raise InputError(f"{path} has the loudness {loudness!r}: it must be a number of decibels, or null")
    if (loudness_by := settings.get("loudness_by", "rms")) not in ("rms", "lufs"):
        raise InputError(f'{path} has the loudness_by {loudness_by!r}: it must be "rms" or "lufs"')
    if not (step is None or (type(step) is int and step >= 0)):
        raise InputError(f"{path} has the step {step!r}: it must be an integer from 0, or null")
    if not isinstance(metrics, Mapping) or not all(map(_is_finite, metrics.values())):
        raise InputError(f"{path} has metrics that are not finite numbers by name")
    if not (autoencoder is None or isinstance(autoencoder, str)):
        raise InputError(f"{path} has the autoencoder {autoencoder!r}: it must be the name of a model, or null")
    return Facts(loudness=loudness, loudness_by=loudness_by, step=step, metrics=dict(metrics), autoencoder=autoencoder)


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
        # safetensors writes wrong values for an array that is not contiguous.
        arrays = {name: np.require(tensors[name], requirements="C") for name in names}
        save_file(arrays, folder / file, {"format": "flax"})
        # safetensors creates files that only their owner can read.
        (folder / file).chmod((folder / "config.json").stat().st_mode)
        files |= dict.fromkeys(names, file)
        total += sum(array.nbytes for array in arrays.values())
    if not single:
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
