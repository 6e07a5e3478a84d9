"""Computes, from shapes alone, what a training run needs. No arrays are allocated and no weights are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from archijax.cli import weighted
from archijax.configs import build, example_batch
from archijax.contract import Model
from archijax.training import MeshParallel, Pmap, TrainState
from archijax.training.compiling import compiling
from train.config import TrainConfig
from train.latents import Latents
from train.setup import first_state, init, on_devices, training_model, training_step


def batch_shapes(config: TrainConfig, latents: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns a dict from names to shapes for a batch. The batch has latents instead of sounds if `latents` is True."""
    item = jax.eval_shape(lambda: example_batch(config.model))
    if latents:
        model, sound = build(config.model), item.pop("audio")
        shape = (1, sound.shape[1] // model.autoencoder.downsample_factor, model.autoencoder.latent_channels)
        item["latent"] = jax.ShapeDtypeStruct(shape, sound.dtype)
    return {name: jax.ShapeDtypeStruct((config.batch_size, *leaf.shape[1:]), leaf.dtype) for name, leaf in item.items()}


def state_shapes(config: TrainConfig, model: Model) -> TrainState:
    """Returns the shapes of the training state for a model."""
    item = {name: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype) for name, leaf in batch_shapes(config).items()}
    return jax.eval_shape(lambda item: first_state(config, model, init(model, jax.random.key(0), item)), item)


def plan(config: TrainConfig, data: Sequence[str], devices: Sequence[jax.Device] | None = None) -> str:
    """Returns lines of text about a training run: its parameters, floating-point operations, memory per device and
    sharding.

    The step is compiled for the devices of this machine. A latent model is assumed to be trained on latents that
    `train.encode` writes, unless `data` contains sounds.

    Args:
        config: the settings of the run.
        data: the data folders as "DIR" or "DIR:WEIGHT". The folders need not exist.
        devices: the devices to use; None: all devices.

    Raises:
        InputError: the settings do not fit each other, or do not fit the devices.
    """
    devices, model = on_devices(config, devices), training_model(config)
    latents = config.model.autoencoder is not None and not any(map(_has_sounds, data))
    state, batch = state_shapes(config, model), batch_shapes(config, latents)
    key = jax.eval_shape(lambda: jax.random.key(0))
    # The operations are counted without gradient accumulation, because XLA counts the body of a loop only once.
    cost = jax.jit(training_step(config, model)).lower(state, batch, key).cost_analysis() or {}
    step = devices.compile(training_step(config, model, devices.axis, config.grad_accumulation_steps))
    memory = compiling(step, devices.devices, *devices.shapes(state, batch), key)().memory_analysis()
    lines = {
        "parameters": f"{_count(state.params):,} trained, {_count(state.frozen):,} frozen",
        "state": f"{_size(_bytes(state))}: parameters, their average, the optimizer and frozen parameters",
        "devices": f"{len(devices.devices)} {devices.devices[0].platform}, {_arrangement(config, devices)}",
        "batch": f"{'latents of ' * latents}{config.batch_size} clips of "
        f"{config.data.length / config.data.sample_rate:.3g} s, "
        f"{config.batch_size // len(devices.devices) // config.grad_accumulation_steps} at a time on each device",
        "operations": f"{cost.get('flops', math.nan):.3g} per step, on all devices together",
    }
    if memory is not None:
        arguments = memory.argument_size_in_bytes
        # XLA counts donated arrays both as arguments and as results.
        more = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        lines["memory"] = (
            f"{_size(arguments + more)} on each device: {_size(arguments)} of state and batch, {_size(more)} besides"
        )
    return "\n".join([f"{name:<12}{text}" for name, text in lines.items()] + _sharding(config, state, devices))


def _has_sounds(folder: str) -> bool:
    path, _ = weighted(folder)
    return Path(path).is_dir() and not Latents.lie_in(path)


def _arrangement(config: TrainConfig, devices: Pmap | MeshParallel) -> str:
    if config.parallel == "pmap":
        return "pmap: each has the whole state"
    return f"mesh of data {len(devices.devices) // config.fsdp} x fsdp {config.fsdp}"


def _sharding(config: TrainConfig, state: TrainState, devices: Pmap | MeshParallel) -> list[str]:
    """Returns lines that show how the largest parameters are sharded. The moving average and the optimizer state have
    the same sharding."""
    if config.fsdp == 1:
        return [f"{'sharding':<12}the batch is split, the state is not"]
    parts = {"params": state.params, "frozen": state.frozen}
    leaves = [
        (leaf, jax.tree_util.keystr(path, simple=True, separator="/"), devices.sharding(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts)
    ]
    split = sum(_bytes(leaf) for leaf, _, sharding in leaves if not sharding.is_fully_replicated)
    lines = [f"{'sharding':<12}{split / max(_bytes(parts), 1):.1%} of the parameters are split, such as"]
    for leaf, name, sharding in sorted(leaves, key=lambda row: -row[0].size)[:5]:
        lines.append(f"{'':<12}{name} {list(leaf.shape)}: {list(sharding.shard_shape(leaf.shape))} on each device")
    return lines


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**27 else f"{count / 2**20:.3g} MiB"
