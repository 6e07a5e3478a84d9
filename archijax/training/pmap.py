"""The training step on all devices, with a copy of the state on each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from archijax.errors import InputError

AXIS = "devices"
SMALL = 2**12  # leaves with fewer values are not worth splitting


def check_divides(batch_size: int, devices: int, grad_accumulation_steps: int = 1) -> None:
    """Raises InputError if a batch cannot be split over this number of devices and parts."""
    count = devices * grad_accumulation_steps
    if batch_size % count:
        parts = f" times grad_accumulation_steps {grad_accumulation_steps}" if grad_accumulation_steps > 1 else ""
        raise InputError(
            f"batch_size must be a multiple of the {devices} devices{parts}, not {batch_size}: "
            f"use {batch_size - batch_size % count or count}."
        )


class Pmap:
    """Data parallelism over all devices. Each device has the whole state and a slice of the batch.

    `put_state` and `put_batch` move host arrays to the devices. `compile` compiles a step that was made with
    ``axis=Pmap.axis``, and `evaluate` compiles a function that does not change the state. `get` copies results to the
    host. With several processes, all processes pass the same state, and each passes its part of a batch.

    Args:
        batch_size: items of a batch over all devices and processes: a multiple of the number of devices times
            `grad_accumulation_steps`.
        grad_accumulation_steps: the number of parts of a device's slice.
        devices: the devices to use; None: all.

    Raises:
        InputError: the batch size is no multiple as above.
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
        """Compiles the step for all devices. The step donates its state."""
        return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=self.devices)

    def evaluate(self, function: Callable) -> Callable:
        """Compiles `function(state, batch, root_key)` for all devices. It does not donate the state."""
        return jax.pmap(function, axis_name=AXIS, in_axes=(0, 0, None), devices=self.devices)

    def put_state(self, state: Any) -> Any:
        """Copies a state of host arrays to every device. Leaves become [devices of this process, ...]."""
        count = len(self.local)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf))), state)
        return jax.device_put(stacked, self.sharding)

    def put_batch(self, batch: dict) -> dict:
        """Splits this process's batch [b, ...] over its devices: [devices, b / devices, ...]."""
        return jax.device_put(jax.tree.map(self._split, batch), self.sharding)

    def shapes(self, state: Any, batch: dict) -> tuple[Any, dict]:
        """The shapes of the results of `put_state` and `put_batch`."""
        count = len(self.local)

        def stacked(leaf):
            return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=self.sharding)

        def split(leaf):
            shape = (count, leaf.shape[0] // count, *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=self.sharding)

        return jax.tree.map(stacked, state), jax.tree.map(split, batch)

    def target(self, shapes: Any) -> Any:
        """The target of a checkpoint's restoration: whole arrays on each host."""
        return shapes

    def saved(self, state: Any) -> Any:
        """The arrays that a checkpoint saves: the first device's copy, on the host."""
        return self.get(state)

    def get(self, tree: Any) -> Any:
        """Copies a result of the step to the host. All devices have equal copies, and the first copy is taken."""
        # Indexing x[0] would compute on all devices. A shard needs no computation.
        return jax.tree.map(lambda leaf: np.array(leaf.addressable_shards[0].data)[0], tree)

    def _split(self, leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(len(self.local), -1, *leaf.shape[1:])
