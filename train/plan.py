"""What a training would need, from shapes alone: nothing is allocated and no weights are read."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.models import DiffusionModel
from archijax.training.compiling import compiling
from archijax.training.mesh import MeshParallel
from archijax.training.optimizer import adamw, learning_rate_schedule
from archijax.training.state import TrainState
from archijax.training.step import losses, make_train_step
from train.config import TrainConfig
from train.placement import spread


def unread(model: Any) -> Any:
    """The model with zeros in place of pretrained weights, which it would read from disk to be initialised."""
    if not dataclasses.is_dataclass(model) or isinstance(model, nn.Module):
        return model
    values = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    changes = {name: inner for name, value in values.items() if (inner := unread(value)) is not value}
    if isinstance(model, DiffusionModel) and model.pretrained is not None:
        tokens, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        shapes = jax.eval_shape(model.embedder.init, jax.random.key(0), tokens, mask)["params"]
        changes["pretrained"] = lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return dataclasses.replace(model, **changes) if changes else model


def batch_shapes(config: TrainConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch of sounds, and of tokens if the model reads text."""
    count, data, text = config.batch_size, config.data, getattr(config.model, "text", None)
    shapes = {"audio": jax.ShapeDtypeStruct((count, data.length, data.channels), jnp.float32)}
    if text is not None:
        shapes["tokens"] = jax.ShapeDtypeStruct((count, text.max_length), jnp.int32)
        shapes["token_mask"] = jax.ShapeDtypeStruct((count, text.max_length), jnp.bool_)
    return shapes


def state_shapes(config: TrainConfig, model: Any) -> TrainState:
    """The shapes of the state of a model, which `unread` returned."""
    item = {name: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype) for name, leaf in batch_shapes(config).items()}
    return jax.eval_shape(lambda item: first_state(config, model, jax.random.key(0), item), item)


def first_state(
    config: TrainConfig,
    model: Any,
    key: jax.Array,
    item: dict,
    weights: Callable[[dict], dict] = lambda variables: variables,
) -> TrainState:
    """The state of a new run, whose weights are what `weights` makes of random ones; item is a batch of one."""
    groups = [names for _, names in losses(model)]
    return TrainState.create(weights(model.init(key, item)), adamw(config.optimizer), groups, config.trainable)


def training_step(config: TrainConfig, model: Any, axis: str | None = None, grad_accumulation_steps: int = 1) -> Any:
    """The training step of a configuration."""
    rate = learning_rate_schedule(config.optimizer, config.steps)
    optimizer, split = adamw(config.optimizer), config.fsdp > 1
    return make_train_step(model, optimizer, rate, config.ema, axis, grad_accumulation_steps, config.trainable, split)


def plan(config: TrainConfig, devices: Sequence[jax.Device] | None = None) -> str:
    """Lines that say what the training would need: parameters, operations, memory per device, sharding.

    The step is compiled for the devices that are here.

    Args:
        config: of the run.
        devices: those to use, by default all.

    Raises:
        InputError: the settings do not fit each other or the devices.
    """
    places, model = spread(config, devices), unread(config.model.build())
    state, batch = state_shapes(config, model), batch_shapes(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    # Counted on the whole batch in one part: in a loop XLA counts what is repeated once.
    cost = jax.jit(training_step(config, model)).lower(state, batch, key).cost_analysis() or {}
    step = places.compile(training_step(config, model, places.axis, config.grad_accumulation_steps))
    memory = compiling(step, places.devices, *places.shapes(state, batch), key)().memory_analysis()
    lines = {
        "parameters": f"{_count(state.params):,} trained, {_count(state.frozen):,} frozen",
        "state": f"{_size(_bytes(state))}: parameters, their average, optimizer and what is frozen",
        "devices": f"{len(places.devices)} {places.devices[0].platform}, {_arrangement(config, places)}",
        "batch": f"{config.batch_size} clips of {config.data.length / config.data.sample_rate:.3g} s, "
        f"{config.batch_size // len(places.devices) // config.grad_accumulation_steps} at a time on each device",
        "operations": f"{cost.get('flops', math.nan):.3g} per step, of all devices together",
    }
    if memory is not None:
        held = memory.argument_size_in_bytes
        # What is donated is counted among arguments and results.
        more = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        lines["memory"] = f"{_size(held + more)} on each device: {_size(held)} of state and batch, {_size(more)} beside"
    return "\n".join([f"{name:<12}{text}" for name, text in lines.items()] + _sharding(state, places))


def _arrangement(config: TrainConfig, places: Any) -> str:
    if not isinstance(places, MeshParallel):
        return "pmap: each holds the whole state"
    return f"mesh of data {len(places.devices) // config.fsdp} x fsdp {config.fsdp}"


def _sharding(state: TrainState, places: Any) -> list[str]:
    """The largest arrays of the parameters and how they are split; the average and the optimizer follow them."""
    if not isinstance(places, MeshParallel) or places.fsdp == 1:
        return [f"{'sharding':<12}the batch is split, the state is not"]
    parts = {"params": state.params, "frozen": state.frozen}
    found = [
        (leaf, jax.tree_util.keystr(path, simple=True, separator="/"), places.sharding(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts)
    ]
    split = sum(_bytes(leaf) for leaf, _, sharding in found if not sharding.is_fully_replicated)
    lines = [f"{'sharding':<12}{split / max(_bytes(parts), 1):.1%} of the parameters are split, such as"]
    for leaf, name, sharding in sorted(found, key=lambda row: -row[0].size)[:5]:
        lines.append(f"{'':<12}{name} {list(leaf.shape)}: {list(sharding.shard_shape(leaf.shape))} on each device")
    return lines


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**27 else f"{count / 2**20:.3g} MiB"
