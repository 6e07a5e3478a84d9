"""Noise schedules: alpha and sigma of a diffusion time t, x_t = alpha x0 + sigma eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError


class Schedule(Protocol):
    """How much sound and how much noise there is at a time; times run from 0 (sound) to `start` (noise)."""

    @property
    def start(self) -> float:
        """The time of noise, where sampling starts."""

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """alpha and sigma of t, in t's shape."""

    def time(self, ratio: jax.Array) -> jax.Array:
        """The time at which sigma / alpha is `ratio`, in its shape."""

    def part(self, strength: float) -> float:
        """The time that is a part of the way to noise, 0 to 1."""

    def snapped(self, times: np.ndarray) -> np.ndarray:
        """Descending times moved to near ones that a net is trained at, all different."""


class UnitTime:
    """What schedules have in common unless they say otherwise: times from 0 to 1, all of them trained at."""

    start = 1.0

    def part(self, strength: float) -> float:
        return strength * self.start

    def snapped(self, times: np.ndarray) -> np.ndarray:
        return times


@dataclass(frozen=True)
class CosineSchedule(UnitTime):
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

    def time(self, ratio: jax.Array) -> jax.Array:
        return jnp.arctan(ratio / self.shift) * (2 / jnp.pi)


@dataclass(frozen=True)
class LinearSchedule(UnitTime):
    """alpha = 1 - t, sigma = t: straight lines from sound (t = 0) to noise (t = 1) (Liu et al. 2022, equation 1)."""

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return 1 - t, t

    def time(self, ratio: jax.Array) -> jax.Array:
        return ratio / (1 + ratio)


@dataclass(frozen=True)
class SigmaSchedule(UnitTime):
    """alpha = 1, sigma = t: the time is the noise's standard deviation, from 0 to `start` (Karras et al. 2022)."""

    start: float = 80.0

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.ones_like(t), t

    def time(self, ratio: jax.Array) -> jax.Array:
        return ratio

    def part(self, strength: float) -> float:
        # Along the paper's ramp with rho = 7: in sigma itself half of the way would be noise already.
        return strength**7 * self.start


@dataclass(frozen=True)
class BetaSchedule(UnitTime):
    """Discrete time k / num_steps, k = 0 ... num_steps: alpha^2 = prod_{i <= k} (1 - beta_i), alpha^2 + sigma^2 = 1.

    "linear": beta from 1e-4 to 0.02 at 1000 steps, scaled for other numbers (Ho et al. 2020, section 4). "cosine":
    alpha^2 = cos^2((t + 0.008) / 1.008 * pi / 2) up to a factor, beta at most 0.999 (Nichol & Dhariwal 2021,
    equation 17). Between the steps log(alpha^2) is linear.
    """

    num_steps: int = 1000
    betas: Literal["linear", "cosine"] = "linear"

    def __post_init__(self):
        # Below that the largest scaled beta would be 1 or more.
        if self.num_steps < 21:
            raise InputError(f"the number of steps of the betas is {self.num_steps}: it must be at least 21")
        if self.betas not in ("linear", "cosine"):
            raise InputError(f'the betas are "{self.betas}": "linear" and "cosine" are known')

    def beta(self) -> np.ndarray:
        """beta of the steps 1 ... num_steps, float64."""
        if self.betas == "linear":
            return np.linspace(0.1, 20.0, self.num_steps) / self.num_steps
        squares = np.cos((np.linspace(0, 1, self.num_steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - squares[1:] / squares[:-1], 0.999)

    def _log_squares(self) -> np.ndarray:
        """log(alpha^2) at the steps 0 ... num_steps, float64."""
        return np.concatenate([[0.0], np.cumsum(np.log1p(-self.beta()))])

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        steps, values = (
            jnp.asarray(a, t.dtype) for a in (np.arange(self.num_steps + 1) / self.num_steps, self._log_squares())
        )
        log_square = jnp.interp(t, steps, values)
        return jnp.exp(log_square / 2), jnp.sqrt(-jnp.expm1(log_square))

    def time(self, ratio: jax.Array) -> jax.Array:
        log_squares = self._log_squares()[1:]
        # log(sigma / alpha), which rises with the step; the noiseless step 0 has none.
        known = (np.log(-np.expm1(log_squares)) - log_squares) / 2
        steps = np.arange(1, self.num_steps + 1) / self.num_steps
        return jnp.interp(jnp.log(ratio), jnp.asarray(known, ratio.dtype), jnp.asarray(steps, ratio.dtype))

    def snapped(self, times: np.ndarray) -> np.ndarray:
        count, most = len(times) - 1, max(1, round(float(times[0]) * self.num_steps))
        if count > most:
            raise InputError(f"{count} steps are more than the {most} that the net is trained at: use fewer")
        # Ascending whole steps; where several fall together they move up, and back down from the top.
        places = np.arange(count + 1)
        steps = np.round(times[::-1] * self.num_steps)
        steps = np.maximum.accumulate(steps - places) + places
        return (np.minimum(steps, most - count + places) / self.num_steps)[::-1]
