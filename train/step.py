"""One training step: a pure function of the state, a batch and the root key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from train.config import EmaConfig
from train.optimizer import average
from train.state import TrainState


def item_keys(root_key: jax.Array, step: jax.Array, first: jax.Array | int, count: int) -> jax.Array:
    """One key per item, [count]: fold_in(fold_in(root, step), i) for the global indices i = first, first + 1, ...

    An item's noise thus does not depend on the devices or parts that its batch is split into.
    """
    step_key = jax.random.fold_in(root_key, step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(first + jnp.arange(count, dtype=jnp.int32))


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema: EmaConfig,
    axis: str | None = None,
) -> Callable[[TrainState, dict, jax.Array], tuple[TrainState, dict]]:
    """Makes `train_step(state, batch, root_key) -> (state, metrics)` for a model with `init` and `loss`.

    Args:
        model: its `loss(variables, keys, batch)` returns (loss, (metrics, new_state)), means over the batch.
        optimizer: maps gradients to a direction; `schedule(step) * direction` is subtracted from the parameters.
        schedule: learning rate by step.
        ema: how the parameters are averaged.
        axis: name of the mapped axis over which the batch is split; None for a whole batch.

    The step skips its update, and counts it in `skipped`, where the loss or the gradient is not finite. The metrics
    are float32 scalars: the model's, and loss, grad_norm (before clipping), learning_rate, skipped (all so far).
    """

    def mean(tree: Any) -> Any:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def gradients(state: TrainState, batch: dict, root_key: jax.Array) -> tuple:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        keys = item_keys(root_key, state.step, first, count)

        def objective(params):
            return model.loss(state.variables(params), keys, batch)

        (loss, (metrics, new_state)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        # Counters in the model's state are the same everywhere and have no mean.
        new_state = jax.tree.map(
            lambda leaf: mean(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, new_state
        )
        return mean(loss), mean(metrics), mean(grads), new_state

    def train_step(state: TrainState, batch: dict, root_key: jax.Array) -> tuple[TrainState, dict]:
        loss, metrics, grads, new_state = gradients(state, batch, root_key)
        grad_norm = jnp.sqrt(sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(grads)))
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        # Optax mixes integers and floats inside.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            rate = jnp.asarray(schedule(state.step), jnp.float32)
        params = jax.tree.map(lambda old, update: old - rate.astype(old.dtype) * update, state.params, updates)
        done = state.step + 1
        updated = (params, average(ema, state.ema, params, done), opt_state, new_state)
        before = (state.params, state.ema, state.opt_state, state.state)
        params, averaged, opt_state, new_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), updated, before
        )
        state = state.replace(
            step=done,
            skipped=state.skipped + (1 - finite.astype(jnp.int32)),
            params=params,
            ema=averaged,
            opt_state=opt_state,
            state=new_state,
        )
        health = {"loss": loss, "grad_norm": grad_norm, "learning_rate": rate, "skipped": state.skipped}
        metrics = {**metrics, **health}
        return state, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), metrics)

    return train_step
