"""Mean and deviation of a latent's channels, counted in training, by which diffusion models scale latents."""

from __future__ import annotations

import jax
import jax.numpy as jnp

DECAY = 0.99  # of the moving averages, per training call
LEAST = 1e-3  # deviation: a channel that says less than this is not made louder

Moments = dict[str, jax.Array]
"""Moving averages that start from zero: "weight" [] of ones, "mean" and "square" [channels] of latents."""


def no_moments(channels: int) -> Moments:
    """Those of a latent that nothing is known of."""
    return {"weight": jnp.zeros(()), "mean": jnp.zeros(channels), "square": jnp.zeros(channels)}


def moved_moments(moments: Moments, latent: jax.Array) -> Moments:
    """Those after a batch of latents [b, frames, channels]; linear in it, so that devices' means are the whole's."""
    latent = jax.lax.stop_gradient(latent)
    new = {"weight": jnp.ones(()), "mean": latent.mean((0, 1)), "square": jnp.square(latent).mean((0, 1))}
    return {name: DECAY * moments[name] + (1 - DECAY) * value for name, value in new.items()}


def mean_and_deviation(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation [channels]; 0 and 1 where nothing is known."""
    known = moments["weight"] > 0
    weight = jnp.where(known, moments["weight"], 1)
    mean = moments["mean"] / weight
    variance = moments["square"] / weight - jnp.square(mean)
    return mean, jnp.where(known, jnp.sqrt(jnp.maximum(variance, LEAST**2)), 1)
