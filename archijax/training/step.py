"""One training step: a pure function of the state, a batch and the root key."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from archijax.compiler import row_major, written
from archijax.training.optimizer import EmaConfig, ema_update, norm
from archijax.training.state import TrainState, part, restricted


def item_keys(root_key: jax.Array, step: jax.Array, first: jax.Array | int, count: int) -> jax.Array:
    """One key per item, [count]: fold_in(fold_in(root, step), i) for the global indices i = first, first + 1, ...

    An item's noise thus does not depend on the devices or parts that its batch is split into.
    """
    step_key = jax.random.fold_in(root_key, step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(first + jnp.arange(count, dtype=jnp.int32))


def losses(model: Any, trainable: Sequence[str] = ()) -> tuple[tuple[Callable, Sequence[str] | None], ...]:
    """The model's losses with the names of the parameters that each trains: those it names, or its one for all.

    Of these only the ones in `trainable`, unless it is empty; a loss that is left with none is left out.
    """
    pairs = getattr(model, "losses", ((model.loss, None),))
    return tuple((loss, kept) for loss, names in pairs if (kept := restricted(names, trainable)) != ())


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    learning_rate_schedule: optax.Schedule,
    ema: EmaConfig,
    axis: str | None = None,
    grad_accumulation_steps: int = 1,
    trainable: Sequence[str] = (),
    split: bool = False,
) -> Callable[[TrainState, dict, jax.Array], tuple[TrainState, dict]]:
    """Makes `train_step(state, batch, root_key) -> (state, metrics)` for a model with `init` and `loss`.

    Args:
        model: its `loss(variables, keys, batch)` returns (loss, (metrics, new_state)), means over the batch. One with
            an adversary has `losses` instead, pairs of such a function and the names of the parameters that it
            trains: they are updated in turn, each given what those before it have made of the others. One whose
            state depends on the whole batch has `over(axis)`, which gives it as a part of a mapped axis needs it.
        optimizer: maps gradients to a direction, see `archijax.training.optimizer.adamw`; `learning_rate_schedule(step) * direction` is
            subtracted from the parameters.
        learning_rate_schedule: learning rate by step.
        ema: how the parameters are averaged.
        axis: name of the mapped axis over which the batch is split; None for a whole batch.
        grad_accumulation_steps: parts that a batch is taken in, one after the other, for their mean gradient; its size is a
            multiple. A loss that depends on its batch as a whole sees a part, and the model's state follows the parts.
        trainable: names of the parameters, at the first level, that it changes; empty for all.
        split: whether parameters are split over the devices of a mesh.

    The step skips its update, and counts it in `skipped`, where a loss or a gradient is not finite. The metrics are
    float32 scalars: the model's, which may be pairs of sums to be divided once all items are in, and loss, grad_norm
    (before clipping), learning_rate, skipped (all so far); the loss and grad_norm of the losses after the first end in
    the names of their parameters, as in loss_discriminator.
    """
    if axis is not None and hasattr(model, "over"):
        model = model.over(axis)

    def mean(tree: Any) -> Any:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def gradients(loss: Callable, names: Sequence[str] | None, variables: dict, keys: jax.Array, batch: dict) -> tuple:
        trained = part(variables["params"], names)

        def of_part(state: Any, keys: jax.Array, batch: dict) -> tuple[Any, tuple]:
            def objective(trained):
                params = trained if names is None else {**variables["params"], **trained}
                return loss({**variables, "params": params, "state": state}, keys, batch)

            (value, (metrics, state)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
            # Counters in the model's state are the same everywhere and have no mean.
            state = jax.tree.map(lambda leaf: mean(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, state)
            return state, (value, metrics, grads)

        if grad_accumulation_steps == 1:
            new_state, results = of_part(variables["state"], keys, batch)
        else:
            # Every part has items of every device, so that none waits for the others.
            parts = jax.tree.map(
                lambda leaf: leaf.reshape(-1, grad_accumulation_steps, *leaf.shape[1:]).swapaxes(0, 1), (keys, batch)
            )

            def add(carry: tuple, given: tuple) -> tuple[tuple, None]:
                state, results = of_part(carry[0], *given)
                return (state, jax.tree.map(jnp.add, carry[1], results)), None

            _, shapes = jax.eval_shape(of_part, variables["state"], *jax.tree.map(lambda leaf: leaf[0], parts))
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            (new_state, total), _ = jax.lax.scan(add, (variables["state"], zeros), parts)
            results = jax.tree.map(lambda leaf: leaf / grad_accumulation_steps, total)
        value, metrics, grads = mean(results)
        if not split:  # on a mesh XLA would make them whole for it
            grads = jax.tree.map(row_major, grads)
        return trained, value, metrics, grads, new_state

    def train_step(state: TrainState, batch: dict, root_key: jax.Array) -> tuple[TrainState, dict]:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        keys = item_keys(root_key, state.step, first, count)
        with jax.numpy_dtype_promotion("standard"):
            rate = jnp.asarray(learning_rate_schedule(state.step), jnp.float32)
        variables, opt_states, metrics, finite = state.variables(state.params), [], {}, jnp.bool_(True)
        for opt_state, (loss, names) in zip(state.opt_state, losses(model, trainable), strict=True):
            old, value, more, grads, new_state = gradients(loss, names, variables, keys, batch)
            grad_norm = norm(grads)
            finite = finite & jnp.isfinite(value) & jnp.isfinite(grad_norm)
            updates, opt_state = optimizer.update(grads, opt_state, old, finite=finite, norm=grad_norm)
            moved = jax.tree.map(lambda leaf, update: _moved(leaf, update, rate), old, updates)
            params = moved if names is None else {**variables["params"], **moved}
            suffix = "_".join(["", *names]) if opt_states else ""
            metrics |= {**more, f"loss{suffix}": value, f"grad_norm{suffix}": grad_norm}
            variables = {**variables, "params": params, "state": new_state}
            opt_states.append(opt_state)

        done = state.step + 1
        new, old = (variables["params"], variables["state"]), (state.params, state.state)
        params, new_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), new, old)
        opt_state = tuple(opt_states)
        if len(opt_state) > 1:
            # The first has not seen whether the losses after it are finite.
            opt_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), opt_state, state.opt_state)
        state = state.replace(
            step=done,
            skipped=state.skipped + (1 - finite.astype(jnp.int32)),
            params=params,
            # Of the parameters as they are kept, which XLA reads rather than making them twice.
            ema=ema_update(ema, state.ema, params, done, finite),
            opt_state=opt_state,
            state=new_state,
        )
        metrics |= {"learning_rate": rate, "skipped": state.skipped}
        return state, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), metrics)

    return train_step


# Jitted, so that each is traced once per shape and not once per parameter.


@jax.jit
def _moved(leaf: jax.Array, update: jax.Array, rate: jax.Array) -> jax.Array:
    return leaf - rate.astype(leaf.dtype) * update


@jax.jit
def _kept(new: jax.Array, old: jax.Array, finite: jax.Array) -> jax.Array:
    return written(jnp.where(finite, new, old))
