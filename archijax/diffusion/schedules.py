"""Noise schedules: alpha and sigma of a diffusion time t, x_t = alpha x0 + sigma eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from ..errors import InputError


class Schedule(Protocol):
    """How much sound and how much noise there is at a time."""

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """alpha and sigma of t, in t's shape."""


@dataclass(frozen=True)
class CosineSchedule:
    """alpha = cos(angle), sigma = sin(angle): variance preserving, t from 0 (sound) to 1 (noise).

    tan(angle) = shift * tan(pi t / 2). At shift 1 the angle is pi t / 2, as in the original. A shift below 1 spends
    more of the times at low noise, as sound far below full scale needs it: shift = its RMS makes sound and noise
    equally strong at t = 1/2 (Hoogeboom et al. 2023, "simple diffusion", section 3.1).
    """

    shift: float = 1.0

    def __post_init__(self):
        if not 0 < self.shift < float("inf"):
            raise InputError(f"the shift of the schedule is {self.shift}: it must be above 0, and 1 for none")

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        angle = t * (jnp.pi / 2)
        if self.shift != 1:
            angle = jnp.arctan2(self.shift * jnp.sin(angle), jnp.cos(angle))
        return jnp.cos(angle), jnp.sin(angle)
