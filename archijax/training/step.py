"""One training step: a pure function of the state, a batch and the root key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from archijax.compiler import row_major, written
from archijax.contract import Batch, Loss, Metrics, Model, Variables
from archijax.keys import item_keys
from archijax.training.losses import Names, losses, merge, over_axis, select
from archijax.training.optimizer import EmaConfig, ema_update, global_norm, skipping
from archijax.training.state import TrainState

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    ema: EmaConfig | None = None,
    *,
    axis: str | None = None,
    grad_accumulation_steps: int = 1,
    trainable: Sequence[str] = (),
    sharded: bool = False,
) -> TrainStep:
    """Makes `train_step(state, batch, root_key) -> (state, metrics)`, a pure function that may be jitted and donated.

    Args:
        model: its `loss(variables, keys, batch)` returns (loss, (metrics, new_state)), means over the batch. One with
            several losses (`losses`) takes them in turn: each sees what those before it made of the parameters.
        optimizer: any optax transformation. :func:`archijax.training.adamw` is the one that is cheap here.
        ema: how the parameters are averaged.
        axis: name of the mapped axis over which the batch is split; None for a whole batch.
        grad_accumulation_steps: parts that a batch is taken in, one after the other, for their mean gradient; its size
            is a multiple. A loss that depends on its batch as a whole sees a part; the model's state follows the parts.
        trainable: paths of the parameters that it changes, such as "net" or "net/decoder"; empty for all.
        sharded: whether parameters are split over the devices of a mesh.

    The step skips its update, and counts it in `skipped`, where a loss or a gradient is not finite. The metrics are
    float32 scalars: the model's, and loss, grad_norm (before clipping), skipped (all so far), and learning_rate if the
    optimizer's state has it; the loss and grad_norm of the losses after the first end in the names of their
    parameters, as in loss_discriminator.
    """
    model, ema, optimizer = over_axis(model, axis), ema or EmaConfig(), skipping(optimizer)

    def train_step(state: TrainState, batch: Batch, root_key: jax.Array) -> tuple[TrainState, Metrics]:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        keys = item_keys(root_key, state.step, first, count)
        variables, opt_states, metrics, finite = state.variables(state.params), [], {}, jnp.bool_(True)
        for opt_state, (loss, names) in zip(state.opt_state, losses(model, trainable), strict=True):
            (value, more, grads), new_state = _gradients(
                loss, names, variables, keys, batch, axis, grad_accumulation_steps
            )
            if not sharded:  # on a mesh XLA would make them whole for it
                grads = jax.tree.map(row_major, grads)
            grad_norm = global_norm(grads)
            finite = finite & jnp.isfinite(value) & jnp.isfinite(grad_norm)
            old = select(variables["params"], names)
            updates, opt_state = optimizer.update(grads, opt_state, old, finite=finite, grad_norm=grad_norm)
            moved = optax.apply_updates(old, updates)
            params = merge(variables["params"], moved)
            suffix = "_".join(["", *names]) if opt_states else ""
            metrics |= {**more, f"loss{suffix}": value, f"grad_norm{suffix}": grad_norm}
            variables = {**variables, "params": params, "state": new_state}
            opt_states.append(opt_state)
        state = _advanced(state, variables, tuple(opt_states), finite, ema)
        rate = optax.tree.get(state.opt_state[0], "learning_rate")
        metrics |= {"skipped": state.skipped} | ({} if rate is None else {"learning_rate": rate})
        return state, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), metrics)

    return train_step


def _gradients(
    loss: Loss, names: Names, variables: Variables, keys: jax.Array, batch: Batch, axis: str | None, count: int
) -> tuple[tuple[jax.Array, Metrics, Any], Variables]:
    """((loss, metrics, gradients), new state) of a batch in `count` parts: means over these and a mapped axis."""
    trained = select(variables["params"], names)

    def mean(tree: Any) -> Any:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def of_part(state: Variables, part: tuple[jax.Array, Batch]) -> tuple[Variables, tuple[jax.Array, Metrics, Any]]:
        def objective(trained: Any) -> tuple[jax.Array, tuple[Metrics, Variables]]:
            params = merge(variables["params"], trained)
            return loss({**variables, "params": params, "state": state}, *part)

        (value, (metrics, state)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        # Counters in the model's state are the same everywhere and have no mean.
        state = jax.tree.map(lambda leaf: mean(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, state)
        return state, (value, metrics, grads)

    if count == 1:
        new_state, results = of_part(variables["state"], (keys, batch))
        return mean(results), new_state
    # Every part has items of every device, so that none waits for the others.
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]).swapaxes(0, 1), (keys, batch))

    def add(carry: tuple, part: tuple) -> tuple[tuple, None]:
        state, results = of_part(carry[0], part)
        return (state, jax.tree.map(jnp.add, carry[1], results)), None

    _, shapes = jax.eval_shape(of_part, variables["state"], jax.tree.map(lambda leaf: leaf[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (new_state, total), _ = jax.lax.scan(add, (variables["state"], zeros), parts)
    return mean(jax.tree.map(lambda leaf: leaf / count, total)), new_state


def _advanced(
    state: TrainState, variables: Variables, opt_state: tuple, finite: jax.Array, ema: EmaConfig
) -> TrainState:
    """The state after a step that led to these variables; but for its counts what it was where one is not finite."""
    new, old = (variables["params"], variables["state"]), (state.params, state.state)
    params, new_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), new, old)
    if len(opt_state) > 1:
        # The first has not seen whether the losses after it are finite.
        opt_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), opt_state, state.opt_state)
    return state.replace(
        step=state.step + 1,
        skipped=state.skipped + (1 - finite.astype(jnp.int32)),
        params=params,
        # Of the parameters as they are kept, which XLA reads rather than making them twice.
        ema=ema_update(ema, state.ema, params, state.step + 1, finite),
        opt_state=opt_state,
        state=new_state,
    )


@jax.jit  # so that it is traced once per shape and not once per parameter
def _kept(new: jax.Array, old: jax.Array, finite: jax.Array) -> jax.Array:
    return written(jnp.where(finite, new, old))
