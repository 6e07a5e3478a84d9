"""Runs the training step on all devices, with a copy of the state on each device."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from archijax.errors import InputError

AXIS = "devices"
SMALL = 2**12  # leaves with fewer values are not worth splitting


def check_divides(batch_size: int, devices: int, grad_accumulation_steps: int = 1) -> None:
    """Raises InputError unless batch_size is a multiple of devices * grad_accumulation_steps."""
    count = devices * grad_accumulation_steps
    if batch_size % count:
        parts = f" times grad_accumulation_steps {grad_accumulation_steps}" if grad_accumulation_steps > 1 else ""
        raise InputError(
            f"batch_size must be a multiple of the {devices} devices{parts}, not {batch_size}: "
            f"use {batch_size - batch_size % count or count}."
        )


class Pmap:
    """Trains on all devices. Each device has the whole state and a slice of the batch.

    A step or function sees one device's slice of a batch, and must itself average over devices, by
    ``jax.lax.pmean(value, Pmap.axis)``. :func:`make_train_step` with ``axis=Pmap.axis`` makes such a step. With several
    processes, all processes pass the same state, and each process passes its own part of a batch.

        devices = Pmap(batch_size=16)
        step = devices.compile(make_train_step(model, optimizer, axis=devices.axis))
        state = devices.put_state(TrainState.create(model, variables, optimizer))
        state, metrics = step(state, devices.put_batch(batch), jax.random.key(0))
        print(devices.get(metrics))

    Args:
        batch_size: the number of items of a batch over all devices and processes, a multiple of the number of devices
            times `grad_accumulation_steps`.
        grad_accumulation_steps: the number of parts into which the step splits a device's slice of a batch.
        devices: the devices to use, or None for all devices.

    Raises:
        InputError: batch_size is not a multiple of the number of devices times `grad_accumulation_steps`.
    """

    axis = AXIS

    def __init__(
        self, batch_size: int, *, grad_accumulation_steps: int = 1, devices: Sequence[jax.Device] | None = None
    ):
        self.devices = list(devices or jax.devices())
        check_divides(batch_size, len(self.devices), grad_accumulation_steps)
        self.local = [device for device in self.devices if device.process_index == jax.process_index()]
        self.sharding = NamedSharding(Mesh(np.array(self.local), (AXIS,)), PartitionSpec(AXIS))

    def compile(self, step: Callable) -> Callable:
        """Compiles `step(state, batch, root_key) -> (state, metrics)`, a function of one device's slice of a batch.

        The compiled step takes the results of `put_state` and `put_batch`, and donates its state.
        """
        return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=self.devices)

    def evaluate(self, function: Callable) -> Callable:
        """Compiles `function(state, batch, root_key) -> arrays`, a function of one device's slice of a batch.

        The state is not donated.
        """
        return jax.pmap(function, axis_name=AXIS, in_axes=(0, 0, None), devices=self.devices)

    def put_state(self, state: Any) -> Any:
        """Copies a state of host arrays to every device of this process. Each array becomes [devices, ...]."""
        count = len(self.local)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf))), state)
        return jax.device_put(stacked, self.sharding)

    def put_batch(self, batch: dict) -> dict:
        """Splits this process's batch [b, ...] over its devices: [devices, b / devices, ...]."""
        return jax.device_put(jax.tree.map(self._split, batch), self.sharding)

    def shapes(self, state: Any, batch: dict) -> tuple[Any, dict]:
        """Returns the shapes of the results of `put_state` and `put_batch`, as trees of ``jax.ShapeDtypeStruct``."""
        count = len(self.local)

        def stacked(leaf):
            return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=self.sharding)

        def split(leaf):
            shape = (count, leaf.shape[0] // count, *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=self.sharding)

        return jax.tree.map(stacked, state), jax.tree.map(split, batch)

    def target(self, shapes: Any) -> Any:
        """Returns ``shapes``, the target for :meth:`Checkpoints.restore`. Each host reads whole arrays."""
        return shapes

    def saved(self, state: Any) -> Any:
        """Returns the tree for :meth:`Checkpoints.save`: the first device's copy of the state, on the host."""
        return self.get(state)

    def get(self, tree: Any) -> Any:
        """Returns the first device's copy of a step's result, as NumPy arrays. The copies of all devices are equal."""
        # Indexing x[0] would compute on all devices. A shard needs no computation.
        return jax.tree.map(lambda leaf: np.array(leaf.addressable_shards[0].data)[0], tree)

    def _split(self, leaf: Array | np.ndarray) -> Array | np.ndarray:
        return leaf.reshape(len(self.local), -1, *leaf.shape[1:])
