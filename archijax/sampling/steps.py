"""Sampler steps, each from x at time t to x at an earlier time, in terms of alpha, sigma and (x0, eps)."""

from __future__ import annotations

import jax

from ..diffusion import GaussianProcess


def ddim(process: GaussianProcess, prediction: jax.Array, x: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
    """One deterministic DDIM step (Song et al. 2021, equation 12 with sigma = 0).

    Args:
        prediction: what the net gave at (x, t), [b, ...] as x.
        t, t_next: [b] or scalars.

    Returns:
        x at t_next: alpha' x0 + sigma' eps.
    """
    x0, eps = process.x0_eps(prediction, x, t)
    return process.noised(x0, eps, t_next)
