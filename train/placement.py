"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from archijax.training.mesh import MeshParallel
from archijax.training.pmap import Pmap
from train.config import TrainConfig


def spread(config: TrainConfig, devices: Sequence[jax.Device] | None = None) -> Pmap | MeshParallel:
    """Where a run's steps are taken, as its settings say. Raises InputError for numbers that do not divide."""
    if config.parallel == "mesh":
        return MeshParallel(
            config.batch_size, config.fsdp, grad_accumulation_steps=config.grad_accumulation_steps, devices=devices
        )
    return Pmap(config.batch_size, grad_accumulation_steps=config.grad_accumulation_steps, devices=devices)
