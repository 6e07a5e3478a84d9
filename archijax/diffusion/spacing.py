"""How the timesteps of sampling are spaced between noise and sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from archijax.diffusion.schedules import Schedule
from archijax.errors import InputError


class TimestepSpacing(Protocol):
    """A rule that chooses timesteps."""

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> np.ndarray:
        """num_steps + 1 descending timesteps, float64.

        Args:
            schedule: of the noise.
            num_steps: at least 1.
            strength: the part of the way to noise where they begin, above 0 to 1.
        """


def _check_part(name: str, start: float, end: float) -> None:
    if not 0 <= end < start <= 1:
        raise InputError(f"{name} goes from {start} to {end}: parts of the way to noise, 1 to 0, are needed")


@dataclass(frozen=True)
class LinearSpacing:
    """Even timesteps from start to end, both parts of the way to noise.

    A shift s above 1 gives more of them to high noise, as longer signals need: t' = s t / (1 + (s - 1) t)
    (Esser et al. 2024, section 5.3.2).
    """

    start: float = 1.0
    end: float = 0.0
    shift: float = 1.0

    def __post_init__(self):
        _check_part("linear spacing", self.start, self.end)
        if not 0 < self.shift < float("inf"):
            raise InputError(f"the shift of the timesteps is {self.shift}: it must be above 0, and 1 for none")

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> np.ndarray:
        even = np.linspace(0, 1, num_steps + 1)
        times = _between(schedule, strength * self.start, self.end, 1 - even)
        if self.shift == 1:
            return times
        unit = times / schedule.start
        return schedule.start * self.shift * unit / (1 + (self.shift - 1) * unit)


@dataclass(frozen=True)
class CosineSpacing:
    """Timesteps from start to end, parts of the way to noise, denser at both ends."""

    start: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        _check_part("cosine spacing", self.start, self.end)

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> np.ndarray:
        wave = (1 + np.cos(np.pi * np.linspace(0, 1, num_steps + 1))) / 2
        return _between(schedule, strength * self.start, self.end, wave)


@dataclass(frozen=True)
class KarrasSpacing:
    """sigma / alpha falls from sigma_max to sigma_min, more of them at low noise, then to 0.

    (sigma_max^(1/rho) + i / (n - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho (Karras et al. 2022, equation 5).
    """

    sigma_max: float = 80.0
    sigma_min: float = 0.002
    rho: float = 7.0

    def __post_init__(self):
        _check_sigmas(self.sigma_min, self.sigma_max)
        if self.rho < 1:
            raise InputError(f"rho is {self.rho}: it must be at least 1")

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> np.ndarray:
        highest, lowest = _limits(schedule, strength, self.sigma_max, self.sigma_min)
        return _at_ratios(
            schedule, np.linspace(highest ** (1 / self.rho), lowest ** (1 / self.rho), num_steps) ** self.rho
        )


@dataclass(frozen=True)
class ExponentialSpacing:
    """log(sigma / alpha) falls evenly from that of sigma_max to that of sigma_min, then sigma to 0.

    The limits are those of Stable Audio Open's authors, for latents of unit deviation (Evans et al. 2024).
    """

    sigma_max: float = 500.0
    sigma_min: float = 0.3

    def __post_init__(self):
        _check_sigmas(self.sigma_min, self.sigma_max)

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> np.ndarray:
        return _at_ratios(
            schedule, np.geomspace(*_limits(schedule, strength, self.sigma_max, self.sigma_min), num_steps)
        )


def _check_sigmas(lowest: float, highest: float) -> None:
    if not 0 < lowest < highest:
        raise InputError(
            f"sigma_min and sigma_max are {lowest} and {highest}: the first must be above 0 and below the second"
        )


def _limits(schedule: Schedule, strength: float, highest: float, lowest: float) -> tuple[float, float]:
    """The highest and the lowest sigma / alpha of sampling, no higher than that of a strength."""
    # Plain numbers, also where a caller is being traced.
    with jax.ensure_compile_time_eval():
        alpha, sigma = (float(a) for a in schedule.alpha_sigma(jnp.float32(schedule.part(strength))))
    highest = min(highest, sigma / max(alpha, 1e-6))
    return highest, min(lowest, highest)


def _at_ratios(schedule: Schedule, ratios: np.ndarray) -> np.ndarray:
    """The timesteps of ratios sigma / alpha, and 0."""
    with jax.ensure_compile_time_eval():
        return np.append(np.asarray(schedule.time(jnp.asarray(ratios, jnp.float32))), 0.0)


def _between(schedule: Schedule, start: float, end: float, weight: np.ndarray) -> np.ndarray:
    """Timesteps with a weight of 1 at the start and 0 at the end."""
    times = schedule.part(start) * weight
    return times + schedule.part(end) * (1 - weight) if end else times


SPACINGS = {
    "linear": LinearSpacing,
    "cosine": CosineSpacing,
    "karras": KarrasSpacing,
    "exponential": ExponentialSpacing,
}
"""The rules by name, with the settings that they have by default."""
