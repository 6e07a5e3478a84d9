"""The training step on all devices, the state copied to each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from archijax.errors import InputError

AXIS = "devices"
SMALL = 2**12  # leaves of fewer values are not worth sending around


def check_divides(batch_size: int, devices: int, grad_accumulation_steps: int = 1) -> None:
    """Raises InputError if a batch cannot be split over so many devices and parts."""
    count = devices * grad_accumulation_steps
    if batch_size % count:
        parts = f" times grad_accumulation_steps {grad_accumulation_steps}" if grad_accumulation_steps > 1 else ""
        raise InputError(
            f"batch_size must be a multiple of the {devices} devices{parts}, not {batch_size}: "
            f"{batch_size - batch_size % count or count} would do."
        )


class Pmap:
    """Data parallel over all devices: each holds the whole state and a slice of the batch.

    The loop asks some things of it: `put_state` and `put_batch` move host arrays to the devices, `compile` turns a
    step for `axis` into one over what they return, `evaluate` a function that changes nothing, and `get` fetches
    what these return. Of several processes each gives its part of a batch, and the same state.

    Args:
        batch_size: items over all devices and processes.
        grad_accumulation_steps: parts that each device takes its share of them in.
        devices: those to use, by default all.

    Raises:
        InputError: the batch size is not a multiple of the number of devices and parts.
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
        """The step over all devices; it donates its state."""
        return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=self.devices)

    def evaluate(self, function: Callable) -> Callable:
        """`function(state, batch, root_key)` over all devices; it leaves the state where it is."""
        return jax.pmap(function, axis_name=AXIS, in_axes=(0, 0, None), devices=self.devices)

    def put_state(self, state: Any) -> Any:
        """Copies a state of host arrays to every device; leaves become [devices of this process, ...]."""
        count = len(self.local)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf))), state)
        return jax.device_put(stacked, self.sharding)

    def put_batch(self, batch: dict) -> dict:
        """Splits this process's batch [b, ...] over its devices: [devices, b / devices, ...]."""
        return jax.device_put(jax.tree.map(self._split, batch), self.sharding)

    def shapes(self, state: Any, batch: dict) -> tuple[Any, dict]:
        """What `put_state` and `put_batch` make of a state and a batch, as shapes alone."""
        count = len(self.local)

        def stacked(leaf):
            return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=self.sharding)

        def split(leaf):
            shape = (count, leaf.shape[0] // count, *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=self.sharding)

        return jax.tree.map(stacked, state), jax.tree.map(split, batch)

    def target(self, shapes: Any) -> Any:
        """What a checkpoint is restored as: whole, on each host."""
        return shapes

    def saved(self, state: Any) -> Any:
        """What a checkpoint is written of: the first device's copy, on the host."""
        return self.get(state)

    def get(self, tree: Any) -> Any:
        """Copies what the step returned to the host: the first device's copy stands for all."""
        # Indexing x[0] would compute on all devices; a shard is there already.
        return jax.tree.map(lambda leaf: np.array(leaf.addressable_shards[0].data)[0], tree)

    def _split(self, leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(len(self.local), -1, *leaf.shape[1:])
