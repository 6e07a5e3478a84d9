"""Computes the validation loss, on files that the training does not use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import grain
import jax
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.contract import Batch, Model
from archijax.keys import item_keys
from archijax.training import MeshParallel, Pmap, TrainState
from archijax.training.losses import losses, over_axis
from train.config import TrainConfig
from train.dataset import Crops
from train.manifest import Manifest


class Validation:
    """Computes the mean loss on held-out files, with the moving averages of the parameters. All validations use the
    same crops and the same noise.

    Args:
        model: the model to validate. Only the first loss of the model is used.
        config: the settings of the run.
        manifest: the held-out files.
        devices: the devices of the run.
        stream: a function that returns an iterator over batches of held-out files. In each process, the iterator reads
            a different part of the crops.
    """

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        manifest: Manifest,
        devices: Pmap | MeshParallel,
        stream: Callable[[], grain.DatasetIterator],
    ):
        self.devices, self.root, self.stream = devices, jax.random.key(config.seed), stream
        self.function = devices.evaluate(make_evaluation(model, devices.axis))
        self.count = min(ceil_div(len(Crops(manifest, config.data)), config.batch_size), config.validation_batches)

    def __call__(self, state: TrainState) -> float:
        """Returns the validation loss of a training state, which is on the devices."""
        # The stream is closed at once, because the next validation reads the same crops with its own threads.
        with contextlib.closing(self.stream()) as stream:
            values = [
                self.function(state, self.devices.put_batch(next(stream)), jax.random.fold_in(self.root, number))
                for number in range(self.count)
            ]
            return float(np.mean([float(self.devices.get(value)) for value in values]))


def make_evaluation(model: Model, axis: str | None) -> Callable[[TrainState, Batch, jax.Array], jax.Array]:
    """Returns a function `evaluate(state, batch, key) -> loss`. The parameters are the moving averages in ``state``. If
    `axis` is given, the loss is averaged over this mapped axis."""
    loss, _ = losses(over_axis(model, axis))[0]

    def evaluate(state: TrainState, batch: Batch, key: jax.Array) -> jax.Array:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        value, _ = loss(state.variables(state.ema), item_keys(key, 0, first, count), batch)
        return value if axis is None else jax.lax.pmean(value, axis)

    return evaluate
