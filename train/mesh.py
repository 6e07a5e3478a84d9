"""The training step on a mesh of devices: the batch split over all of them, the state over some."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from archijax.errors import InputError
from train.parallel import check_divides

DATA, FSDP = "data", "fsdp"
SMALL = 2**12  # leaves of fewer values are not worth sending around


class MeshParallel:
    """Data parallel over all devices with parameters, optimizer and averages split over groups of `fsdp` of them.

    The compiler adds what has to be gathered and summed (Xu et al. 2021, GSPMD; Zhao et al. 2023, FSDP). What is asked
    of it by the loop is as of :class:`train.parallel.Pmap`; here a state has the shapes that it has on the host.

    Args:
        batch_size: items over all devices, a multiple of their number.
        fsdp: devices that share one copy of the state, a divisor of their number; 1 copies it to each.
        small: leaves of fewer values are copied to every device.

    Raises:
        InputError: numbers that do not divide.
    """

    axis = None

    def __init__(self, batch_size: int, fsdp: int = 1, small: int = SMALL):
        count = jax.device_count()
        if fsdp < 1 or count % fsdp:
            raise InputError(f"fsdp must divide the {count} devices, not be {fsdp}")
        check_divides(batch_size, count)
        types = (AxisType.Auto, AxisType.Auto)
        self.mesh = jax.make_mesh((count // fsdp, fsdp), (DATA, FSDP), axis_types=types)
        self.fsdp, self.small = fsdp, small
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        self.batch = NamedSharding(self.mesh, PartitionSpec((DATA, FSDP)))

    def sharding(self, leaf: Any) -> NamedSharding:
        """Where an array of the state lies: split along its longest axis that `fsdp` divides, or whole."""
        shape = np.shape(leaf)
        fitting = [axis for axis, size in enumerate(shape) if size % self.fsdp == 0]
        if self.fsdp == 1 or math.prod(shape) < self.small or not fitting:
            return self.whole
        longest = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, FSDP))

    def compile(self, step: Callable) -> Callable:
        """The step over all devices; it donates the state that it is given and leaves the next one as it lay."""

        def placed(state, batch, root_key):
            state, metrics = step(state, batch, root_key)
            return jax.lax.with_sharding_constraint(state, jax.tree.map(self.sharding, state)), metrics

        return jax.jit(placed, donate_argnums=0)

    def put_state(self, state: Any) -> Any:
        """A state of host arrays on the devices."""
        return jax.tree.map(lambda leaf: self._put(leaf, self.sharding(leaf)), state)

    def put_batch(self, batch: dict) -> dict:
        """This process's part of a batch [b, ...], which is all of it with one process, over the devices."""
        return {
            name: jax.make_array_from_process_local_data(self.batch, np.asarray(leaf)) for name, leaf in batch.items()
        }

    def get(self, tree: Any) -> Any:
        """Copies what the step returned to the host, whole."""
        from jax.experimental import multihost_utils

        if jax.process_count() > 1:
            return multihost_utils.process_allgather(tree, tiled=True)
        return jax.device_get(tree)

    def _put(self, leaf: Any, sharding: NamedSharding) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])
