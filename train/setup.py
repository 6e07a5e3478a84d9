"""Makes the parts of a training run from the settings: the devices, the optimizer, the state of a new run, and the
step."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import optax

from archijax.configs import build
from archijax.contract import Batch, Model, Variables
from archijax.training import MeshParallel, Pmap, TrainState, adamw, make_train_step
from archijax.training.lora import Lora
from archijax.training.step import TrainStep
from train.config import TrainConfig


def on_devices(config: TrainConfig, devices: Sequence[jax.Device] | None = None) -> Pmap | MeshParallel:
    """Returns the Pmap or MeshParallel that runs steps on the devices. Raises InputError if the batch size does not fit
    the number of devices."""
    if config.parallel == "mesh":
        return MeshParallel(
            config.batch_size, config.fsdp, grad_accumulation_steps=config.grad_accumulation_steps, devices=devices
        )
    return Pmap(config.batch_size, grad_accumulation_steps=config.grad_accumulation_steps, devices=devices)


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Makes the optimizer of a run."""
    return adamw(config.optimizer, config.steps)


def init(model: Model, key: jax.Array, item: Batch, frozen: Variables | None = None) -> Variables:
    """Returns the initial variables. `item` is a batch of one item, and `frozen` has the pretrained parts (see
    `archijax.contract.Model`)."""
    # `init` of a model without pretrained parts need not have this argument.
    return model.init(key, item, frozen) if frozen else model.init(key, item)


def training_model(config: TrainConfig) -> Model:
    """Returns the model that a run trains. With `config.lora`, the model is a `Lora`, of which only the adapters are
    trained. Raises InputError if settings do not fit each other."""
    model = build(config.model)
    return Lora(model, config.lora, config.lora_alpha, config.lora_targets) if config.lora else model


def first_state(config: TrainConfig, model: Model, variables: Variables) -> TrainState:
    """Makes the training state of a new run from the initial variables."""
    return TrainState.create(model, variables, optimizer(config), config.trainable)


def training_step(
    config: TrainConfig, model: Model, axis: str | None = None, grad_accumulation_steps: int = 1
) -> TrainStep:
    """Returns the training step: for a whole batch, or with `axis` for the part of one device under `pmap`."""
    return make_train_step(
        model,
        optimizer(config),
        config.ema,
        axis=axis,
        grad_accumulation_steps=grad_accumulation_steps,
        trainable=config.trainable,
        sharded=config.fsdp > 1,
    )
