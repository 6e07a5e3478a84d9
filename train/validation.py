"""The loss on files that training never sees."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from archijax.training.step import item_keys, losses
from train.config import TrainConfig
from train.dataset import Crops, batches
from train.manifest import Manifest


class Validation:
    """The mean loss of the averaged parameters on held-out files, always on the same crops with the same noise.

    Args:
        model: its first loss counts.
        config: of the run.
        manifest: the held-out files; of several processes each reads its part of the batches.
        devices: where the steps are taken.
        given: further arguments of `train.dataset.batches`.
    """

    def __init__(self, model: Any, config: TrainConfig, manifest: Manifest, devices: Any, **given: Any):
        self.devices, self.root = devices, jax.random.key(config.seed)
        self.function = devices.evaluate(make_evaluation(model, devices.axis))
        crops = len(Crops(manifest, config.data))
        self.count = min(-(-crops // config.batch_size), config.validation_batches)
        self.stream = lambda: batches(manifest, config.data, seed=config.seed, **given)

    def __call__(self, state: Any) -> float:
        """The loss of a state that lies on the devices."""
        # Closed at once: the threads of the next validation read the same crops.
        with contextlib.closing(self.stream()) as stream:
            values = [
                self.function(state, self.devices.put_batch(next(stream)), jax.random.fold_in(self.root, number))
                for number in range(self.count)
            ]
            return float(np.mean([float(self.devices.get(value)) for value in values]))


def make_evaluation(model: Any, axis: str | None) -> Callable:
    """Makes `evaluate(state, batch, key) -> loss` of the average, float32 [], a mean over the mapped axis if named."""
    if axis is not None and hasattr(model, "over"):
        model = model.over(axis)
    loss, _ = losses(model)[0]

    def evaluate(state: Any, batch: dict, key: jax.Array) -> jax.Array:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        value, _ = loss(state.variables(state.ema), item_keys(key, 0, first, count), batch)
        return value if axis is None else jax.lax.pmean(value, axis)

    return evaluate
