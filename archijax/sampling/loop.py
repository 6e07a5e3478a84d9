"""The loop that samples: one scan of steps over a list of times."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..diffusion import GaussianProcess
from ..errors import InputError
from .steps import ddim


def linear_times(num_steps: int) -> jax.Array:
    """num_steps + 1 times from 1 (noise) to 0 (sound), evenly spaced."""
    if num_steps < 1:
        raise InputError(f"the number of steps is {num_steps}: it must be at least 1")
    return jnp.linspace(1.0, 0.0, num_steps + 1)


def sample(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    process: GaussianProcess,
    x: jax.Array,
    times: jax.Array,
) -> jax.Array:
    """Sound from noise. Pure: jit, vmap, pmap and differentiate it.

    Args:
        denoise: (x [b, ...], t [b]) -> the prediction that the process names; wrap it for guidance.
        x: the state at the first time, [b, ...]; at the beginning sigma * noise.
        times: descending, [steps + 1]; a run may be cut into chunks that share a time.

    Returns:
        x at the last time, [b, ...].
    """

    def step(x, t):
        each = jnp.broadcast_to(t[0], x.shape[:1])
        return ddim(process, denoise(x, each), x, t[0], t[1]), None

    x, _ = jax.lax.scan(step, x, jnp.stack([times[:-1], times[1:]], axis=1))
    return x
