"""Lists the names that Stable Audio's parameters have in the state_dicts of diffusers and of stable-audio-tools.

A model of diffusers has four parts, each with a state_dict. A model of stable-audio-tools has one state_dict, without
the text encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from archijax.configs import StableAudioConfig
from archijax.convert import oobleck
from archijax.convert.table import Entry, Path
from archijax.errors import InputError
from archijax.nn.rotary import rotary_frequencies

TRANSFORMER = ("params", "net", "net")
CONDITIONERS = ("params", "net")
AUTOENCODER = ("frozen", "autoencoder", "params", "net")
EMBEDDER = ("frozen", "embedder")
# The names of the two numbers in diffusers, which has only these two.
SIDES = {"seconds_start": "start", "seconds_total": "end"}


def hub_tables(config: StableAudioConfig, shapes: Mapping[str, Any]) -> dict[str, tuple[Path, list[Entry]]]:
    """Returns a dict from the folder of each part to (path, table): the path of the part's parameters in the variables,
    and the conversion table of the part.

    Args:
        shapes: the variables of the model, or the shapes from :func:`archijax.convert.diffusers.shapes`.

    Raises:
        InputError: the model has a setting that diffusers does not support.
    """
    if config.transformer.qk_norm or config.method != "v":
        raise InputError("diffusers has no transformer with qk_norm or rectified flow: use --layout stable-audio-tools")
    if tuple(number.name for number in config.numbers) != tuple(SIDES):
        raise InputError(f"diffusers has only the numbers {', '.join(SIDES)}: use --layout stable-audio-tools")
    levels, layers = len(config.autoencoder.strides), config.transformer.num_layers
    parts = {
        "transformer": (TRANSFORMER, hub_transformer(layers)),
        "projection_model": (CONDITIONERS, hub_conditioners()),
        "vae": (AUTOENCODER, oobleck.hub_entries(levels)),
    }
    return {part: (path, fitted(table, _within(shapes, path))) for part, (path, table) in parts.items()}


def tools_table(config: StableAudioConfig, shapes: Mapping[str, Any]) -> list[Entry]:
    """Returns the conversion table of a stable-audio-tools model. `hub_tables` explains the arguments."""
    names = tuple(number.name for number in config.numbers)
    parts = {
        TRANSFORMER: _tools_transformer(config, "model.model."),
        CONDITIONERS: _tools_conditioners(names, "conditioner.conditioners."),
        AUTOENCODER: oobleck.tools_entries(len(config.autoencoder.strides), "pretransform.model."),
    }
    return [
        dataclasses.replace(entry, path=(*path, *entry.path) if entry.path else ())
        for path, table in parts.items()
        for entry in fitted(table, _within(shapes, path))
    ]


def _within(shapes: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Returns the variables below ``path``. If the path is CONDITIONERS, the entry "net" is left out."""
    for name in path:
        shapes = shapes[name]
    return {name: inner for name, inner in shapes.items() if name != "net"} if path == CONDITIONERS else shapes


def fitted(table: Iterable[Entry], shapes: Mapping[str, Any]) -> list[Entry]:
    """Returns a table with the fields ``shape`` and ``rows`` in its entries. Entries for parameters that ``shapes``
    lacks are removed. ``shapes`` are nested dicts of parameters or of their shapes.

    Raises:
        InputError: a parameter in ``shapes`` has no entry.
    """
    flat = flatten_dict(shapes)
    fitted = [
        entry if entry.constant is not None else dataclasses.replace(entry, shape=flat[entry.path].shape)
        for entry in table
        if entry.path in flat or entry.constant is not None
    ]
    if rest := flat.keys() - {entry.path for entry in fitted}:
        raise InputError(f"{'/'.join(min(rest))} is not part of Stable Audio: it has no name to convert to")
    heights: dict[str, int] = {}
    for i, entry in enumerate(fitted):
        if entry.rows is not None:
            (name,) = entry.names
            fitted[i] = dataclasses.replace(entry, rows=(heights.get(name, 0), 0))
            heights[name] = heights.get(name, 0) + entry.torch_shape[0]
    return [
        entry if entry.rows is None else dataclasses.replace(entry, rows=(entry.rows[0], heights[entry.names[0]]))
        for entry in fitted
    ]


def _kernel(path: Path, name: str, *, bias: bool = False, layout: str = "kernel") -> Iterator[Entry]:
    yield Entry((*path, "kernel"), (f"{name}.weight",), layout)
    if bias:
        yield Entry((*path, "bias"), (f"{name}.bias",))


def _projection(path: Path, name: str, bias: bool = False) -> Iterator[Entry]:
    yield from _kernel((*path, "first"), f"{name}.0", bias=bias)
    yield from _kernel((*path, "second"), f"{name}.2", bias=bias)


def _norm(path: Path, scale: str, bias: str) -> Iterator[Entry]:
    yield Entry((*path, "scale"), (scale,))
    yield Entry((*path, "bias"), (bias,))


def _feed_forward(path: Path, name: str) -> Iterator[Entry]:
    yield from _kernel((*path, "expand"), f"{name}.0.proj", bias=True)
    yield Entry((*path, "contract", "kernel"), (f"{name}.2.weight",), "kernel")
    yield Entry((*path, "bias"), (f"{name}.2.bias",))


def hub_transformer(layers: int) -> Iterator[Entry]:
    """Yields the entries of the conversion table for diffusers' StableAudioDiTModel, without shapes."""
    yield from _kernel(("mix_in",), "preprocess_conv", layout="pointwise")
    yield from _kernel(("mix_out",), "postprocess_conv", layout="pointwise")
    yield from _kernel(("to_in",), "proj_in")
    yield from _kernel(("to_out",), "proj_out")
    yield Entry(("time_frequencies",), ("time_proj.weight",))
    yield from _projection(("time",), "timestep_proj", bias=True)
    yield from _projection(("global",), "global_proj")
    yield from _projection(("embedding",), "cross_attention_proj")
    for i in range(layers):
        layer, name = (f"layers_{i}",), f"transformer_blocks.{i}"
        for own, number in (("attention", 1), ("cross_attention", 2), ("feed_forward", 3)):
            yield from _norm((*layer, f"{own}_norm"), f"{name}.norm{number}.weight", f"{name}.norm{number}.bias")
        for own, number in (("attention", 1), ("cross_attention", 2)):
            for matrix in "qkv":
                yield from _kernel((*layer, own, f"to_{matrix}"), f"{name}.attn{number}.to_{matrix}")
            yield from _kernel((*layer, own, "to_out"), f"{name}.attn{number}.to_out.0")
        yield from _feed_forward((*layer, "feed_forward"), f"{name}.ff.net")


def _tools_transformer(config: StableAudioConfig, prefix: str) -> Iterator[Entry]:
    yield from _kernel(("mix_in",), f"{prefix}preprocess_conv", layout="pointwise")
    yield from _kernel(("mix_out",), f"{prefix}postprocess_conv", layout="pointwise")
    yield from _kernel(("to_in",), f"{prefix}transformer.project_in")
    yield from _kernel(("to_out",), f"{prefix}transformer.project_out")
    yield Entry(("time_frequencies",), (f"{prefix}timestep_features.weight",), "column")
    yield from _projection(("time",), f"{prefix}to_timestep_embed", bias=True)
    yield from _projection(("global",), f"{prefix}to_global_embed")
    yield from _projection(("embedding",), f"{prefix}to_cond_embed")
    sizes = config.transformer
    frequencies = rotary_frequencies(sizes.rotary_features or sizes.head_features // 2)
    yield Entry((), (f"{prefix}transformer.rotary_pos_emb.inv_freq",), constant=frequencies)
    for i in range(sizes.num_layers):
        layer, name = (f"layers_{i}",), f"{prefix}transformer.layers.{i}"
        for own, theirs in (
            ("attention", "pre_norm"), ("cross_attention", "cross_attend_norm"), ("feed_forward", "ff_norm"),
        ):  # fmt: skip
            yield from _norm((*layer, f"{own}_norm"), f"{name}.{theirs}.gamma", f"{name}.{theirs}.beta")
        for own, theirs, fused in (("attention", "self_attn", "qkv"), ("cross_attention", "cross_attn", "kv")):
            for matrix in "qkv":
                inside = matrix in fused
                names = (f"{name}.{theirs}.to_{fused if inside else matrix}.weight",)
                # `fitted` computes the rows from the sizes.
                yield Entry((*layer, own, f"to_{matrix}", "kernel"), names, "kernel", rows=(0, 0) if inside else None)
                yield from _norm(
                    (*layer, own, f"{matrix}_norm"),
                    f"{name}.{theirs}.{matrix}_norm.weight",
                    f"{name}.{theirs}.{matrix}_norm.bias",
                )
            yield from _kernel((*layer, own, "to_out"), f"{name}.{theirs}.to_out")
        yield from _feed_forward((*layer, "feed_forward"), f"{name}.ff.ff")


def _number(own: str, name: str) -> Iterator[Entry]:
    yield Entry((own, "frequencies"), (f"{name}.0.weights",))
    yield from _kernel((own, "to_out"), f"{name}.1", bias=True)


def hub_conditioners() -> Iterator[Entry]:
    """Yields the entries of the conversion table for diffusers' StableAudioProjectionModel, without shapes."""
    yield from _kernel(("text",), "text_projection", bias=True)
    for own, side in SIDES.items():
        yield from _number(own, f"{side}_number_conditioner.time_positional_embedding")


def _tools_conditioners(numbers: tuple[str, ...], prefix: str) -> Iterator[Entry]:
    yield from _kernel(("text",), f"{prefix}prompt.proj_out", bias=True)
    for own in numbers:
        yield from _number(own, f"{prefix}{own}.embedder.embedding")


def frequencies_kept(state: Iterable[str], table: list[Entry]) -> list[Entry]:
    """Returns the table without the entries for constants that are missing in ``state``. Newer files do not store these
    constants."""
    names = set(state)
    return [entry for entry in table if entry.constant is None or names & set(entry.names)]
