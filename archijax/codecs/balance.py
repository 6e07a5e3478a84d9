"""Computes a weighted sum of losses. The weight of a loss sets the norm of the loss's gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

DECAY = 0.99  # decay of the moving averages of norms, per training call


def balanced_sum(
    x: Float[Array, " b *shape"],
    losses: Mapping[str, Callable[[Float[Array, " b *shape"]], Float[Array, ""]]],
    weights: Mapping[str, float],
    norms: Mapping[str, Float[Array, ""]],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]], dict[str, Float[Array, ""]]]:
    """Returns a weighted sum of losses of x. Its gradient is ``sum_i weight_i * gradient_i / norm_i``.

    This is equation 4 of Défossez et al. 2022. The gradients are divided by ``norms``, the norms of earlier calls. The
    result therefore does not depend on how a batch is split over devices. A loss with the norm 0 adds no gradient.

    Args:
        x: the array that the losses measure, such as decoded sounds [b, time, c].
        losses: a dict from names to functions of x. Each function returns a scalar, a mean over the items of x.
        weights: a dict from the same names to the weight of each loss.
        norms: a dict from the same names to scalar arrays, the moving averages of the norms of the gradients. Before
            the first call all norms are ``jnp.zeros(())``.

    Returns:
        (the weighted sum, a dict of the losses, a dict of the new norms). The names in both dicts are those of
        ``losses``. All values are scalars.
    """
    values, new_norms, direction = {}, {}, jnp.zeros_like(x)
    for name, loss in losses.items():
        values[name], gradient = jax.value_and_grad(loss)(x)
        gradient = jax.lax.stop_gradient(gradient)
        # The factor len(x) gives the gradient that each item would have as the only item of a batch. The mean norm
        # then does not depend on the size of the batch.
        norm = jnp.mean(jnp.sqrt(jnp.sum(jnp.square(len(x) * gradient), axis=tuple(range(1, x.ndim)))))
        old = norms[name]
        known = old > 0
        direction += jnp.where(known, weights[name] / jnp.where(known, old, 1), 0) * gradient
        average = jnp.where(known, DECAY * old + (1 - DECAY) * norm, norm)
        new_norms[name] = jnp.where(norm > 0, average, old)
    total = sum(weights[name] * value for name, value in values.items())
    # The result has the value of `total` and the gradient of `product`, which is `direction`.
    product = jnp.sum(x * direction)
    return jax.lax.stop_gradient(total - product) + product, values, new_norms
