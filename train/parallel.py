"""Where the training step runs."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from archijax.errors import InputError

AXIS = "devices"


def check_divides(batch_size: int, devices: int) -> None:
    """Raises InputError if a batch cannot be split over so many devices."""
    if batch_size % devices:
        raise InputError(
            f"batch_size must be a multiple of the {devices} devices, not {batch_size}: "
            f"{batch_size - batch_size % devices or devices} would do."
        )


class Pmap:
    """Data parallel over this machine's devices: each holds the whole state and a slice of the batch.

    The loop asks four things of it: `put_state` and `put_batch` move host arrays to the devices, `compile` turns a
    step made for `axis` into one over what they return, and `get` fetches what that returns.

    Raises:
        InputError: the batch size is not a multiple of the number of devices.
    """

    axis = AXIS

    def __init__(self, batch_size: int):
        self.devices = jax.local_devices()
        check_divides(batch_size, len(self.devices))
        mesh = Mesh(np.array(self.devices), (AXIS,))
        self.sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    def compile(self, step: Callable) -> Callable:
        """The step over all devices; it donates the state that it is given."""
        return jax.pmap(step, axis_name=AXIS, in_axes=(0, 0, None), donate_argnums=0, devices=self.devices)

    def put_state(self, state):
        """Copies a state of host arrays to every device; leaves become [devices, ...]."""
        count = len(self.devices)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf))), state)
        return jax.device_put(stacked, self.sharding)

    def put_batch(self, batch: dict) -> dict:
        """Splits a batch [b, ...] over the devices: [devices, b / devices, ...]."""
        count = len(self.devices)
        split = {name: leaf.reshape(count, -1, *leaf.shape[1:]) for name, leaf in batch.items()}
        return jax.device_put(split, self.sharding)

    def get(self, tree):
        """Copies what the step returned to the host: the first device's copy stands for all."""
        # Indexing x[0] would compute on all devices; a shard is there already.
        return jax.tree.map(lambda leaf: np.array(leaf.addressable_shards[0].data)[0], tree)
