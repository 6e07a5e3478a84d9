"""Contains functions that measure the mean and the standard deviation of each channel of a latent in training.
Diffusion models use both numbers to scale latents.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DECAY = 0.99  # the factor of the moving averages per training call
LEAST = 1e-3  # the smallest standard deviation; quieter channels are not amplified further

Moments = dict[str, Float[Array | np.ndarray, " ..."]]
"""A dict of moving averages. All averages start from zero. "mean" [channels] averages the latents, "square" [channels]
averages the squares of the latents, and "weight" [] averages the number 1.
"""


def no_moments(channels: int) -> Moments:
    """Returns the moments before training, which are all zero."""
    return {"weight": jnp.zeros(()), "mean": jnp.zeros(channels), "square": jnp.zeros(channels)}


def moved_moments(moments: Moments, latent: Float[Array, "b frames channels"]) -> Moments:
    """Returns the moments after one more batch of latents.

    The moments are linear functions of means over the batch. The mean of the moments of several devices therefore
    equals the moments of the whole batch.
    """
    latent = jax.lax.stop_gradient(latent)
    new = {"weight": jnp.ones(()), "mean": latent.mean((0, 1)), "square": jnp.square(latent).mean((0, 1))}
    return {name: DECAY * moments[name] + (1 - DECAY) * value for name, value in new.items()}


def mean_and_deviation(moments: Moments) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Returns (mean, standard deviation) of each channel. Before training, each mean is 0 and each deviation is 1."""
    known = moments["weight"] > 0
    weight = jnp.where(known, moments["weight"], 1)
    mean = moments["mean"] / weight
    variance = moments["square"] / weight - jnp.square(mean)
    return mean, jnp.where(known, jnp.sqrt(jnp.maximum(variance, LEAST**2)), 1)
