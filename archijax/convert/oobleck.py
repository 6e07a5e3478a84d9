"""Lists the names that Oobleck's parameters have in the state_dicts of diffusers and of stable-audio-tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from archijax.codecs.oobleck import DILATIONS, KERNEL
from archijax.configs import OobleckConfig
from archijax.convert.table import Entry, Path


def hub_entries(levels: int) -> Iterator[Entry]:
    """Yields the entries of the conversion table for diffusers' AutoencoderOobleck, without shapes.

    Args:
        levels: the number of levels, which is the length of ``OobleckConfig.strides``.
    """
    for side, ours in (("encoder", "down"), ("decoder", "up")):
        yield from _conv((side, "to_in"), f"{side}.conv1")
        for i in range(levels):
            # diffusers counts the decoder's blocks from the latent. Here they are counted from the sound.
            block = f"{side}.block.{i if side == 'encoder' else levels - 1 - i}"
            yield from _snake((side, f"{ours}_{i}_snake"), f"{block}.snake1", "channel")
            strided = f"{block}.conv1" if side == "encoder" else f"{block}.conv_t1"
            yield from _conv((side, f"{ours}_{i}"), strided, transposed=side == "decoder")
            for j in range(len(DILATIONS)):
                unit = f"{block}.res_unit{j + 1}"
                names = (f"{unit}.snake1", f"{unit}.conv1", f"{unit}.snake2", f"{unit}.conv2")
                yield from _unit((side, f"{ours}_{i}_unit_{j}"), names, "channel")
        yield from _snake((side, "snake"), f"{side}.snake1", "channel")
        yield from _conv((side, "to_out"), f"{side}.conv2", bias=side == "encoder")


def tools_entries(levels: int, prefix: str = "") -> Iterator[Entry]:
    """Yields the entries of the conversion table for stable-audio-tools' Oobleck, without shapes.

    Args:
        levels: the number of levels, which is the length of ``OobleckConfig.strides``.
        prefix: the text before each PyTorch name, such as "pretransform.model.".
    """
    for side, ours in (("encoder", "down"), ("decoder", "up")):
        layers = f"{prefix}{side}.layers"
        yield from _conv((side, "to_in"), f"{layers}.0")
        for i in range(levels):
            block = f"{layers}.{(i if side == 'encoder' else levels - 1 - i) + 1}.layers"
            units, snake, strided = (0, 3, 4) if side == "encoder" else (2, 0, 1)
            yield from _snake((side, f"{ours}_{i}_snake"), f"{block}.{snake}", "same")
            yield from _conv((side, f"{ours}_{i}"), f"{block}.{strided}", transposed=side == "decoder")
            for j in range(len(DILATIONS)):
                names = tuple(f"{block}.{units + j}.layers.{k}" for k in range(4))
                yield from _unit((side, f"{ours}_{i}_unit_{j}"), names, "same")
        yield from _snake((side, "snake"), f"{layers}.{levels + 1}", "same")
        yield from _conv((side, "to_out"), f"{layers}.{levels + 2}", bias=side == "encoder")


def _unit(path: Path, names: tuple[str, str, str, str], layout: str) -> Iterator[Entry]:
    yield from _snake((*path, "snake"), names[0], layout)
    yield from _conv((*path, "conv"), names[1])
    yield from _snake((*path, "snake_mix"), names[2], layout)
    yield from _conv((*path, "mix"), names[3])


def _snake(path: Path, name: str, layout: str) -> Iterator[Entry]:
    for parameter in ("alpha", "beta"):
        yield Entry((*path, parameter), (f"{name}.{parameter}",), layout)


def _conv(path: Path, name: str, *, transposed: bool = False, bias: bool = True) -> Iterator[Entry]:
    layout = "transposed" if transposed else "kernel"
    yield Entry((*path, "kernel"), (f"{name}.weight",), layout, weight_norm=True)
    if bias:
        yield Entry((*path, "bias"), (f"{name}.bias",))


def shapes(config: OobleckConfig) -> dict[str, Any]:
    """Returns nested dicts of the shapes (jax.ShapeDtypeStruct) of an Oobleck's parameters. To trace ``Oobleck.init``
    for these shapes would take seconds."""
    flat: dict[Path, tuple[int, ...]] = {}

    def conv(path: Path, size: int, c_in: int, c_out: int) -> None:
        flat[*path, "kernel"], flat[*path, "bias"] = (size, c_in, c_out), (c_out,)

    def snake(path: Path, c: int) -> None:
        flat[*path, "alpha"] = flat[*path, "beta"] = (c,)

    latent = {"encoder": 2 * config.latent_channels, "decoder": config.latent_channels}
    for side, channels in (("encoder", config.encoder_channels), ("decoder", config.decoder_channels)):
        widths = [channels * multiplier for multiplier in (1, *config.multipliers)]
        deep, shallow = (widths[-1], channels) if side == "encoder" else (channels, widths[-1])
        for i, (near, far, stride) in enumerate(zip(widths, widths[1:], config.strides, strict=False)):
            name, c_in, c_out = ("down", near, far) if side == "encoder" else ("up", far, near)
            snake((side, f"{name}_{i}_snake"), c_in)
            conv((side, f"{name}_{i}"), 2 * stride, c_in, c_out)
            for j in range(len(DILATIONS)):
                unit = (side, f"{name}_{i}_unit_{j}")
                snake((*unit, "snake"), near)
                snake((*unit, "snake_mix"), near)
                conv((*unit, "conv"), KERNEL, near, near)
                conv((*unit, "mix"), 1, near, near)
        snake((side, "snake"), deep)
        if side == "encoder":
            conv((side, "to_in"), KERNEL, config.channels, shallow)
            conv((side, "to_out"), 3, deep, latent[side])
        else:
            conv((side, "to_in"), KERNEL, latent[side], shallow)
            flat[side, "to_out", "kernel"] = (KERNEL, deep, config.channels)
    return unflatten_dict({path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in flat.items()})
