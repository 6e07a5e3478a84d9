"""Runs the training step on a mesh of devices, with the batch split over all devices.

The state can be split over groups of devices.
"""

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
    """Trains on all devices, where groups of `fsdp` devices share one copy of the state.

    The state consists of the parameters, the moving average and the optimizer's state. The compiler adds the
    communication between devices (Xu et al. 2021, GSPMD; Zhao et al. 2023, FSDP). The methods are those of
    :class:`archijax.training.Pmap`, but arrays of a state get no axis of devices, and a step sees the whole batch.
    Therefore the step must not average over devices: make the step with ``axis=None``.

        devices = MeshParallel(batch_size=16)
        step = devices.compile(make_train_step(model, optimizer))  # with fsdp above 1, pass sharded=True
        state = devices.put_state(TrainState.create(model, variables, optimizer))
        state, metrics = step(state, devices.put_batch(batch), jax.random.key(0))
        print(devices.get(metrics))

    Args:
        batch_size: the number of items of a batch over all devices and processes, a multiple of the number of devices
            times `grad_accumulation_steps`.
        fsdp: the number of devices that share one copy of the state, a divisor of the number of devices. With 1, every
            device has its own copy.
        grad_accumulation_steps: the number of parts into which the step splits a device's slice of a batch.
        small: arrays of the state with fewer than `small` values are copied whole to every device.
        devices: the devices to use, or None for all devices.

    Raises:
        InputError: fsdp does not divide the number of devices, or batch_size is not an allowed multiple.
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
            raise InputError(f"fsdp is {fsdp}: it must divide the {count} devices")
        check_divides(batch_size, count, grad_accumulation_steps)
        types = (AxisType.Auto, AxisType.Auto)
        self.mesh = jax.make_mesh((count // fsdp, fsdp), (DATA, FSDP), axis_types=types, devices=self.devices)
        self.fsdp, self.small = fsdp, small
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        self.batch = NamedSharding(self.mesh, PartitionSpec((DATA, FSDP)))

    def sharding(self, leaf: Any) -> NamedSharding:
        """Returns the sharding of an array of the state. The longest axis that `fsdp` divides is split. Arrays without
        such an axis, and arrays with fewer than `small` values, are not split."""
        shape = np.shape(leaf)
        fitting = [axis for axis, size in enumerate(shape) if size % self.fsdp == 0]
        if self.fsdp == 1 or math.prod(shape) < self.small or not fitting:
            return self.whole
        longest = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, FSDP))

    def compile(self, step: Callable) -> Callable:
        """Compiles `step(state, batch, root_key) -> (state, metrics)`, a function of a whole batch.

        The compiled step donates its state. The returned state has the same sharding.
        """

        def sharded(state, batch, root_key):
            state, metrics = step(state, batch, root_key)
            return jax.lax.with_sharding_constraint(state, jax.tree.map(self.sharding, state)), metrics

        options = compiler_options(self.devices[0].platform)
        return jax.jit(sharded, donate_argnums=0, compiler_options=options)

    def evaluate(self, function: Callable) -> Callable:
        """Compiles `function(state, batch, root_key) -> arrays`, a function of a whole batch.

        The state is not donated.
        """
        return jax.jit(function)

    def put_state(self, state: Any) -> Any:
        """Puts a state on the devices. Arrays that already have the right sharding are not moved."""
        return jax.tree.map(lambda leaf: self._put(leaf, self.sharding(leaf)), state)

    def target(self, shapes: Any) -> Any:
        """Turns a state or its shapes into the target for :meth:`Checkpoints.restore`: shapes with shardings."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(leaf)), shapes
        )

    def saved(self, state: Any) -> Any:
        """Returns the tree for :meth:`Checkpoints.save`: the state itself. Each process writes its own shards."""
        return state

    def put_batch(self, batch: dict) -> dict:
        """Puts a batch [b, ...] on the devices. With several processes, each process passes its part of the batch."""
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self.batch, np.asarray(leaf)), batch)

    def shapes(self, state: Any, batch: dict) -> tuple[Any, dict]:
        """Returns the shapes of the results of `put_state` and `put_batch`, as trees of ``jax.ShapeDtypeStruct``."""

        split = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.batch), batch)
        return self.target(state), split

    def get(self, tree: Any) -> Any:
        """Returns a result of a step as NumPy arrays on the host. With several processes, all processes must call this
        method together."""
        return jax.tree.map(_whole, tree)

    def _put(self, leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def _whole(leaf: jax.Array) -> np.ndarray:
    # Leaves are gathered one by one, because a state that is split may not fit on a device.
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.array(leaf)
    return np.array(multihost_utils.process_allgather(leaf, tiled=True))
