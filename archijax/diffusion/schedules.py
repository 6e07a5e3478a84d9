"""Noise schedules: alpha and sigma of a diffusion time t, x_t = alpha x0 + sigma eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp


class Schedule(Protocol):
    """How much sound and how much noise there is at a time."""

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """alpha and sigma of t, in t's shape."""


@dataclass(frozen=True)
class CosineSchedule:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): variance preserving, t from 0 (sound) to 1 (noise)."""

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        angle = t * (jnp.pi / 2)
        return jnp.cos(angle), jnp.sin(angle)
