"""Makes the training step: a pure function of the state, a batch and the root key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Key, PyTree

from archijax.compiler import row_major, written
from archijax.contract import Batch, LossResult, Metrics, Model, Variables
from archijax.keys import item_keys
from archijax.training.losses import Names, losses, merge, over_axis, select
from archijax.training.optimizer import EmaConfig, ema_update, global_norm, skipping
from archijax.training.state import TrainState

TrainStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Metrics]]


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
    """Returns `train_step(state, batch, root_key) -> (state, metrics)`, a pure function for ``jax.jit``.

        optimizer = adamw(OptimizerConfig(learning_rate=1e-4), steps=1000)
        state = TrainState.create(model, model.init(jax.random.key(0), batch), optimizer)
        train_step = jax.jit(make_train_step(model, optimizer, EmaConfig()), donate_argnums=0)
        state, metrics = train_step(state, batch, jax.random.key(1))

    Pass the same root key at every step. The keys of the items depend on the root key and on `state.step`. If a loss or
    a gradient is not finite, the step makes no update, and adds 1 to `skipped`. The metrics are a dict of float32
    scalars: the metrics of the model, loss, grad_norm (before clipping), skipped (the total), and learning_rate if the
    optimizer's state has this value. If the model has several losses, each loss after the first has two metrics that
    end in the names of its parameters, such as loss_discriminator and grad_norm_discriminator.

    Args:
        model: a model, such as an :class:`archijax.DiffusionModel`. The method `loss(variables, keys, batch)` of a
            model returns (loss, (metrics, new_state)). Loss, metrics and new_state are means over the batch. If the
            model has several losses, a step minimises one loss after the other. Each loss uses the parameters that the
            earlier losses have updated.
        optimizer: any optax transformation. :func:`archijax.training.adamw` needs the least time and memory.
        ema: the settings of the moving average, or None for the defaults.
        axis: the mapped axis over which the batch is split, such as ``Pmap.axis``. The step averages over this axis. If
            axis is None, the step sees the whole batch, as with :class:`archijax.training.MeshParallel`.
        grad_accumulation_steps: the number of equal parts into which a batch is split. The gradients of the parts are
            computed in turn and averaged. A loss that depends on the whole batch sees one part at a time, and the
            model's state is updated after each part.
        trainable: paths of the parameters to train, such as "net" or "net/decoder", or () for all parameters.
        sharded: whether parameters are split over devices, as by a MeshParallel with fsdp above 1.
    """
    model, ema, optimizer = over_axis(model, axis), ema or EmaConfig(), skipping(optimizer)

    def train_step(state: TrainState, batch: Batch, root_key: Key[Array, ""]) -> tuple[TrainState, Metrics]:
        count = jax.tree.leaves(batch)[0].shape[0]
        first = 0 if axis is None else jax.lax.axis_index(axis) * count
        keys = item_keys(root_key, state.step, first, count)
        variables, opt_states, metrics, finite = state.variables(state.params), [], {}, jnp.bool_(True)
        for opt_state, (loss, names) in zip(state.opt_state, losses(model, trainable), strict=True):
            (value, model_metrics, grads), new_state = _gradients(
                loss, names, variables, keys, batch, axis, grad_accumulation_steps
            )
            if not sharded:  # on a mesh, XLA would gather the gradients for this
                grads = jax.tree.map(row_major, grads)
            grad_norm = global_norm(grads)
            finite = finite & jnp.isfinite(value) & jnp.isfinite(grad_norm)
            old = select(variables["params"], names)
            updates, opt_state = optimizer.update(grads, opt_state, old, finite=finite, grad_norm=grad_norm)
            params = merge(variables["params"], optax.apply_updates(old, updates))
            suffix = "_".join(["", *names]) if opt_states else ""
            metrics |= {**model_metrics, f"loss{suffix}": value, f"grad_norm{suffix}": grad_norm}
            variables = {**variables, "params": params, "state": new_state}
            opt_states.append(opt_state)
        state = _advanced(state, variables, tuple(opt_states), finite, ema)
        rate = optax.tree.get(state.opt_state[0], "learning_rate")
        metrics |= {"skipped": state.skipped} | ({} if rate is None else {"learning_rate": rate})
        return state, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), metrics)

    return train_step


def _gradients(
    loss: Callable,
    names: Names,
    variables: Variables,
    keys: Key[Array, " b"],
    batch: Batch,
    axis: str | None,
    count: int,
) -> tuple[tuple[Array, Metrics, PyTree], Variables]:
    """Computes the losses of a batch in `count` parts. Returns ((loss, metrics, gradients), new state). Loss, metrics
    and gradients are means over the parts."""
    trained = select(variables["params"], names)

    def mean(tree: Any) -> Any:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def of_part(state: Variables, part: tuple[Array, Batch]) -> tuple[Variables, tuple[Array, Metrics, PyTree]]:
        def objective(trained: PyTree) -> LossResult:
            params = merge(variables["params"], trained)
            return loss({**variables, "params": params, "state": state}, *part)

        (value, (metrics, state)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        # Integer counters in the model's state are equal on all devices and have no mean.
        state = jax.tree.map(lambda leaf: mean(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, state)
        return state, (value, metrics, grads)

    if count == 1:
        new_state, results = of_part(variables["state"], (keys, batch))
        return mean(results), new_state
    # Every part has items of every device, so that no device waits for others.
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]).swapaxes(0, 1), (keys, batch))

    def add(carry: tuple, part: tuple) -> tuple[tuple, None]:
        state, results = of_part(carry[0], part)
        return (state, jax.tree.map(jnp.add, carry[1], results)), None

    _, shapes = jax.eval_shape(of_part, variables["state"], jax.tree.map(lambda leaf: leaf[0], parts))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (new_state, total), _ = jax.lax.scan(add, (variables["state"], zeros), parts)
    return mean(jax.tree.map(lambda leaf: leaf / count, total)), new_state


def _advanced(
    state: TrainState, variables: Variables, opt_state: tuple, finite: Bool[Array, ""], ema: EmaConfig
) -> TrainState:
    """Returns the state after a step that computed ``variables``.

    If ``finite`` is False, only `step` and `skipped` change.
    """
    new, old = (variables["params"], variables["state"]), (state.params, state.state)
    params, new_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), new, old)
    if len(opt_state) > 1:
        # The update of the first loss did not know whether the later losses are finite.
        opt_state = jax.tree.map(lambda *leaves: _kept(*leaves, finite), opt_state, state.opt_state)
    return state.replace(
        step=state.step + 1,
        skipped=state.skipped + (1 - finite.astype(jnp.int32)),
        params=params,
        # The average uses the kept parameters, which XLA reads instead of computing them a second time.
        ema=ema_update(ema, state.ema, params, state.step + 1, finite),
        opt_state=opt_state,
        state=new_state,
    )


@jax.jit  # so that it is traced once per shape, not once per parameter
def _kept(new: Array, old: Array, finite: Bool[Array, ""]) -> Array:
    return written(jnp.where(finite, new, old))
