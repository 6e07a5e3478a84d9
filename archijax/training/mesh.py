"""The training step on a mesh of devices: the batch split over all of them, the state over some."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from archijax.compiler import compiler_options
from archijax.errors import InputError
from archijax.training.pmap import SMALL, check_divides

DATA, FSDP = "data", "fsdp"


class MeshParallel:
    """Data parallel over all devices with parameters, optimizer and averages split over groups of `fsdp` of them.

    The compiler adds what has to be gathered and summed (Xu et al. 2021, GSPMD; Zhao et al. 2023, FSDP). The methods
    are those of :class:`archijax.training.Pmap`; here a state has the shapes that it has on the host.

    Args:
        batch_size: items over all devices, a multiple of their number times `grad_accumulation_steps`.
        fsdp: devices that share one copy of the state, a divisor of their number; 1 copies it to each.
        grad_accumulation_steps: parts that each device takes its share of the batch in.
        small: leaves of fewer values are copied to every device.
        devices: those to use, by default all.

    Raises:
        InputError: numbers that do not divide.
    """

    axis = None

    def __init__(
        self,
        batch_size: int,
        fsdp: int = 1,
        *,
        grad_accumulation_steps: int = 1,
        small: int = SMALL,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.devices = list(devices or jax.devices())
        count = len(self.devices)
        if fsdp < 1 or count % fsdp:
            raise InputError(f"fsdp must divide the {count} devices, not be {fsdp}")
        check_divides(batch_size, count, grad_accumulation_steps)
        types = (AxisType.Auto, AxisType.Auto)
        self.mesh = jax.make_mesh((count // fsdp, fsdp), (DATA, FSDP), axis_types=types, devices=self.devices)
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
        """The step over all devices; it donates its state and leaves the next one as it lay."""

        def placed(state, batch, root_key):
            state, metrics = step(state, batch, root_key)
            return jax.lax.with_sharding_constraint(state, jax.tree.map(self.sharding, state)), metrics

        options = compiler_options(self.devices[0].platform)
        return jax.jit(placed, donate_argnums=0, compiler_options=options)

    def evaluate(self, function: Callable) -> Callable:
        """`function(state, batch, root_key)` over all devices; it leaves the state where it is."""
        return jax.jit(function)

    def put_state(self, state: Any) -> Any:
        """A state of host arrays on the devices; what was restored there stays."""
        return jax.tree.map(lambda leaf: self._put(leaf, self.sharding(leaf)), state)

    def target(self, shapes: Any) -> Any:
        """What a checkpoint is restored as: a state's shapes and where its arrays lie."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(leaf)), shapes
        )

    def saved(self, state: Any) -> Any:
        """What a checkpoint is written of: the state where it lies, so that each process writes its shards."""
        return state

    def put_batch(self, batch: dict) -> dict:
        """This process's part of a batch [b, ...], which is all of it with one process, over the devices."""
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self.batch, np.asarray(leaf)), batch)

    def shapes(self, state: Any, batch: dict) -> tuple[Any, dict]:
        """What `put_state` and `put_batch` make of a state and a batch, as shapes alone."""

        split = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.batch), batch)
        return self.target(state), split

    def get(self, tree: Any) -> Any:
        """Copies what the step returned to the host, whole; of several processes all must ask for it together."""
        return jax.tree.map(_whole, tree)

    def _put(self, leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def _whole(leaf: jax.Array) -> np.ndarray:
    # Leaf by leaf: a state that is split because it does not fit on a device is never whole on one.
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.array(leaf)
    return np.array(multihost_utils.process_allgather(leaf, tiled=True))
