"""A sum of losses of one array whose gradients have the norms that their weights ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

DECAY = 0.99  # of the norms' moving averages, per training call


def balanced_sum(
    x: jax.Array,
    losses: Mapping[str, Callable[[jax.Array], jax.Array]],
    weights: Mapping[str, float],
    norms: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]:
    """The weighted sum of losses; its gradient by x is sum_i weight_i * gradient_i / norm_i.

    Equation 4 of Défossez et al. 2022. What is divided by are the norms of before this call, so that the result does
    not depend on how a batch is split over devices; a loss without one, which is zero, does not count yet.

    Args:
        x: [b, ...], items first.
        losses: by name; each maps x to the mean over its items.
        weights: by name.
        norms: by name, the moving average of each gradient's norm; zeros at the start.

    Returns:
        (sum, the losses by name, the new norms).
    """
    values, moved, direction = {}, {}, jnp.zeros_like(x)
    for name, loss in losses.items():
        values[name], gradient = jax.value_and_grad(loss)(x)
        gradient = jax.lax.stop_gradient(gradient)
        # Of one item, as if it were the whole batch: the mean over the items of any part has this norm.
        norm = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(len(x) * gradient), axis=tuple(range(1, x.ndim)))))
        old = norms[name]
        known = old > 0
        direction += jnp.where(known, weights[name] / jnp.where(known, old, 1), 0) * gradient
        average = jnp.where(known, DECAY * old + (1 - DECAY) * norm, norm)
        moved[name] = jnp.where(norm > 0, average, old)
    total = sum(weights[name] * value for name, value in values.items())
    along = jnp.sum(x * direction)
    return jax.lax.stop_gradient(total - along) + along, values, moved
