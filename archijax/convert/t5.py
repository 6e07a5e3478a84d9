"""Weights of a Hugging Face T5 encoder as Flax parameters, and back; reading them from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.errors import InputError, listed
from archijax.hub import WEIGHT_FILES, absent, pretrained_folder, read_json, read_weights
from archijax.nn.t5 import T5Config, T5Encoder

_DECODER = ("decoder.", "lm_head.")


def _names(config: T5Config) -> dict[tuple[str, ...], list[str]]:
    """The table: for every Flax path all its names in a PyTorch state_dict. Kernels are transposed there."""
    first = "encoder.block.0.layer.0.SelfAttention"
    names = {
        ("embed", "embedding"): ["shared.weight", "encoder.embed_tokens.weight"],
        ("relative_bias", "embedding"): [f"{first}.relative_attention_bias.weight"],
        ("norm", "scale"): ["encoder.final_layer_norm.weight"],
    }
    for i in range(config.num_layers):
        layer, block = f"layers_{i}", f"encoder.block.{i}.layer"
        names[layer, "attention_norm", "scale"] = [f"{block}.0.layer_norm.weight"]
        names[layer, "feed_forward_norm", "scale"] = [f"{block}.1.layer_norm.weight"]
        for matrix in "qkvo":
            names[layer, "attention", matrix, "kernel"] = [f"{block}.0.SelfAttention.{matrix}.weight"]
        for matrix in ("wi_0", "wi_1", "wo") if config.gated else ("wi", "wo"):
            names[layer, "feed_forward", matrix, "kernel"] = [f"{block}.1.DenseReluDense.{matrix}.weight"]
    return names


def _layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    return array.T if path[-1] == "kernel" else array  # its own inverse


def _shapes(config: T5Config) -> dict[tuple[str, ...], tuple[int, ...]]:
    tokens, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    variables = jax.eval_shape(lambda: T5Encoder(config).init(jax.random.key(0), tokens, mask))
    return {path: leaf.shape for path, leaf in flatten_dict(variables["params"]).items()}


# The encoders of the papers, so that a model can be planned before their files are there.
SIZES = {
    "t5-small": T5Config(32128, 512, 64, 2048, num_layers=6, num_heads=8),
    "t5-base": T5Config(32128, 768, 64, 3072, num_layers=12, num_heads=12),
    "t5-large": T5Config(32128, 1024, 64, 4096, num_layers=24, num_heads=16),
    "google/flan-t5-small": T5Config(32128, 512, 64, 1024, num_layers=8, num_heads=6, gated=True),
    "google/flan-t5-base": T5Config(32128, 768, 64, 2048, num_layers=12, num_heads=12, gated=True),
    "google/flan-t5-large": T5Config(32128, 1024, 64, 2816, num_layers=24, num_heads=16, gated=True),
}


def from_torch(state: Mapping[str, np.ndarray], config: T5Config) -> dict[str, Any]:
    """Flax parameters from the state_dict of a Hugging Face T5EncoderModel or of a whole T5 (its decoder is ignored).

    Args:
        state: Arrays of float64, float32, float16 or bfloat16 by PyTorch name. The embedding may be there under either
            of its two names or both.

    Returns:
        Nested dict of float32 numpy arrays: `T5Encoder(config).apply({"params": ...}, tokens, mask)`.

    Raises:
        InputError: tensors are missing, unexpected, of another shape or not floating point; all are named.
    """
    shapes, table = _shapes(config), _names(config)
    params, wrong = {}, []
    for path, names in table.items():
        found = [name for name in names if name in state]
        wrong += [] if found else [f"{names[0]} is missing"]
        shape = shapes[path][::-1] if path[-1] == "kernel" else shapes[path]
        for name in found:
            tensor = state[name]
            if tensor.shape != shape:
                wrong.append(f"{name} is {list(tensor.shape)} instead of {list(shape)}")
            elif tensor.dtype.name not in ("float64", "float32", "float16", "bfloat16"):
                wrong.append(f"{name} holds {tensor.dtype} instead of floating point numbers")
            elif not np.array_equal(tensor, state[found[0]]):
                wrong.append(f"{name} differs from {found[0]}")
            else:
                params[path] = np.ascontiguousarray(_layout(path, tensor), np.float32)
    known = {name for names in table.values() for name in names}
    wrong += [f"{name} is unexpected" for name in state if name not in known and not name.startswith(_DECODER)]
    if wrong:
        raise InputError(f"these weights do not fit the T5 config: {listed(wrong, 12)}")
    return unflatten_dict(params)


def to_torch(params: Mapping[str, Any], config: T5Config) -> dict[str, np.ndarray]:
    """The state_dict of a Hugging Face T5EncoderModel, float32; the embedding is there twice. Inverts `from_torch`.

    Raises:
        InputError: the parameters are not those of this config.
    """
    flat, shapes = flatten_dict(params), _shapes(config)
    if odd := [path for path in {**shapes, **flat} if path not in flat or flat[path].shape != shapes.get(path)]:
        raise InputError(f"these parameters do not fit the T5 config: {listed(['/'.join(path) for path in odd], 12)}")
    state = {}
    for path, names in _names(config).items():
        state |= dict.fromkeys(names, np.ascontiguousarray(_layout(path, np.asarray(flat[path])), np.float32))
    return state


def load_t5_config(name_or_dir: str | Path, revision: str | None = None) -> T5Config:
    """The configuration alone, from config.json, or of a well-known name without it; else as `load_t5`."""
    if str(name_or_dir) in SIZES and not Path(name_or_dir).is_dir():
        return SIZES[str(name_or_dir)]
    folder = pretrained_folder(name_or_dir, revision, ["config.json"])
    if not (folder / "config.json").is_file():
        raise InputError(absent(name_or_dir, folder, WEIGHT_FILES))
    return T5Config.from_hf(read_json(folder / "config.json"))


def load_t5(name_or_dir: str | Path, revision: str | None = None) -> tuple[T5Config, dict[str, Any]]:
    """Configuration and encoder parameters of a pretrained T5, Flan-T5 or ByT5, from safetensors alone.

    Args:
        name_or_dir: A folder with config.json and model.safetensors (or its shards and their index), or a hub id.
        revision: Branch, tag or commit on the hub.

    Returns:
        The configuration and nested float32 numpy arrays, as from `from_torch`.

    Raises:
        InputError: the model is not there, damaged, or not a T5.
    """
    folder = pretrained_folder(name_or_dir, revision, WEIGHT_FILES)
    config = load_t5_config(folder)
    return config, from_torch(read_weights(name_or_dir, folder, leave_out=_DECODER), config)
