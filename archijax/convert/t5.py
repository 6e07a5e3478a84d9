"""Reads the weights of a Hugging Face T5 encoder from a folder or the hub, and converts the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from archijax.convert import table
from archijax.convert.table import Entry
from archijax.errors import InputError
from archijax.hub import WEIGHT_FILES, absent, part, pretrained_folder, read_json, read_weights
from archijax.nn.t5 import T5Config, T5Encoder

DECODER = ("decoder.", "lm_head.")


def entries(config: T5Config) -> list[Entry]:
    """Returns the conversion table between a T5Encoder and the state_dict of a Hugging Face T5."""
    first = "encoder.block.0.layer.0.SelfAttention"
    names = {
        ("embed", "embedding"): ("shared.weight", "encoder.embed_tokens.weight"),
        ("relative_bias", "embedding"): (f"{first}.relative_attention_bias.weight",),
        ("norm", "scale"): ("encoder.final_layer_norm.weight",),
    }
    for i in range(config.num_layers):
        layer, block = f"layers_{i}", f"encoder.block.{i}.layer"
        names[layer, "attention_norm", "scale"] = (f"{block}.0.layer_norm.weight",)
        names[layer, "feed_forward_norm", "scale"] = (f"{block}.1.layer_norm.weight",)
        for matrix in "qkvo":
            names[layer, "attention", matrix, "kernel"] = (f"{block}.0.SelfAttention.{matrix}.weight",)
        for matrix in ("wi_0", "wi_1", "wo") if config.gated else ("wi", "wo"):
            names[layer, "feed_forward", matrix, "kernel"] = (f"{block}.1.DenseReluDense.{matrix}.weight",)
    one = T5Encoder(dataclasses.replace(config, num_layers=1))

    def init() -> dict[str, Any]:
        return one.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))["params"]

    shapes = flatten_dict(jax.eval_shape(init))
    # All layers have the same shapes.
    shapes |= {path: shapes["layers_0", *path[1:]] for path in names if path[0].startswith("layers_")}
    layout = {"kernel": "kernel", "scale": "same", "embedding": "same"}
    return [Entry(path, names[path], layout[path[-1]], shape=shapes[path].shape) for path in names]


# The encoders of the papers. With these sizes, a model can be planned without the files of its encoder.
SIZES = {
    "t5-small": T5Config(32128, 512, 64, 2048, num_layers=6, num_heads=8),
    "t5-base": T5Config(32128, 768, 64, 3072, num_layers=12, num_heads=12),
    "t5-large": T5Config(32128, 1024, 64, 4096, num_layers=24, num_heads=16),
    "google/flan-t5-small": T5Config(32128, 512, 64, 1024, num_layers=8, num_heads=6, gated=True),
    "google/flan-t5-base": T5Config(32128, 768, 64, 2048, num_layers=12, num_heads=12, gated=True),
    "google/flan-t5-large": T5Config(32128, 1024, 64, 2816, num_layers=24, num_heads=16, gated=True),
}


def from_torch(state: Mapping[str, np.ndarray], config: T5Config) -> dict[str, Any]:
    """Converts the state_dict of a Hugging Face T5EncoderModel or T5 to Flax parameters. The decoder is ignored.

    Args:
        state: a dict from names in PyTorch to arrays of float64, float32, float16 or bfloat16. One of the two names of
            the embedding is enough.

    Returns:
        Nested dicts of float32 numpy arrays, for `T5Encoder(config).apply({"params": ...}, tokens, mask)`.

    Raises:
        InputError: a tensor is missing or unknown, or has a wrong shape or type. The message lists the wrong tensors.
    """
    encoder = {name: tensor for name, tensor in state.items() if not name.startswith(DECODER)}
    params = table.from_torch(entries(config), encoder)
    return jax.tree.map(lambda leaf: np.ascontiguousarray(leaf, np.float32), params)


def to_torch(params: Mapping[str, Any], config: T5Config) -> dict[str, np.ndarray]:
    """Converts Flax parameters to the state_dict of a Hugging Face T5EncoderModel. The state_dict contains the
    embedding twice, under two names."""
    return table.to_torch(entries(config), params)


def load_t5_config(name_or_dir: str | Path, revision: str | None = None) -> T5Config:
    """Returns the configuration of a pretrained T5. For the names in `SIZES`, such as "t5-base", no file is read.
    :func:`load_t5` explains the arguments."""
    if str(name_or_dir) in SIZES and not Path(name_or_dir).is_dir():
        return SIZES[str(name_or_dir)]
    files = ["config.json", "model_index.json", "text_encoder/config.json"]
    folder = part(pretrained_folder(name_or_dir, revision, files), "text_encoder")
    if not (folder / "config.json").is_file():
        raise InputError(absent(name_or_dir, folder, WEIGHT_FILES))
    return T5Config.from_hf(read_json(folder / "config.json"))


def load_t5(name_or_dir: str | Path, revision: str | None = None) -> tuple[T5Config, dict[str, Any]]:
    """Reads the configuration and the encoder of a pretrained T5, Flan-T5 or ByT5 from safetensors files.

    Args:
        name_or_dir: a folder with config.json and model.safetensors (or its shards and their index), or a hub name.
        revision: a branch, tag or commit on the hub; None: the main branch.

    Returns:
        (the configuration, the result of `from_torch`).

    Raises:
        InputError: the model is missing or damaged, or it is not a T5.
    """
    files = [*WEIGHT_FILES, "model_index.json", *(f"text_encoder/{file}" for file in WEIGHT_FILES)]
    folder = part(pretrained_folder(name_or_dir, revision, files), "text_encoder")
    config = load_t5_config(folder)
    return config, from_torch(read_weights(name_or_dir, folder, leave_out=DECODER), config)
