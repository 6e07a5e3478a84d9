"""Contains rules that choose the timesteps of sampling between noise and sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from archijax.diffusion.schedules import Schedule
from archijax.errors import InputError


@runtime_checkable
class TimestepSpacing(Protocol):
    """Describes a rule that chooses the timesteps of sampling, such as ``LinearSpacing()``. ``process.timesteps(50,
    spacing)`` and ``model.sample(..., timestep_spacing=spacing)`` take such an object.
    """

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps, in float64.

        Args:
            schedule: the noise schedule, such as ``CosineSchedule()`` or ``process.schedule``.
            num_steps: the number of sampling steps, at least 1.
            strength: the point between sound (0) and noise (1) at which sampling starts, above 0 and at most 1.
        """


def _check_fractions(name: str, start: float, end: float) -> None:
    if not 0 <= end < start <= 1:
        raise InputError(
            f"{name} goes from {start} to {end}: both must be in [0, 1], and the end must be below the start"
        )


@dataclass(frozen=True)
class LinearSpacing:
    """Chooses evenly spaced timesteps, such as in ``process.timesteps(50, LinearSpacing(shift=2.0))``.

    Fields:
        start, end: the first and the last timestep, as fractions of the way from sound (0) to noise (1).
        shift: a number above 0. A timestep at the fraction t of the way from sound to noise moves to the fraction
            ``shift * t / (1 + (shift - 1) * t)`` (Esser et al. 2024, section 5.3.2). A shift above 1 puts more
            timesteps at high noise. Such a shift suits long sounds.

    Raises:
        InputError: 0 <= end < start <= 1 does not hold, or shift is not above 0.
    """

    start: float = 1.0
    end: float = 0.0
    shift: float = 1.0

    def __post_init__(self):
        _check_fractions("linear spacing", self.start, self.end)
        if not 0 < self.shift < float("inf"):
            raise InputError(f"the shift of the timesteps is {self.shift}: it must be above 0; 1 means no shift")

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps, such as ``LinearSpacing().timesteps(CosineSchedule(), 50, 1.0)``.
        :class:`TimestepSpacing` explains the arguments.
        """
        even = np.linspace(0, 1, num_steps + 1)
        times = _between(schedule, strength * self.start, self.end, 1 - even)
        if self.shift == 1:
            return times
        unit = times / schedule.start
        return schedule.start * self.shift * unit / (1 + (self.shift - 1) * unit)


@dataclass(frozen=True)
class CosineSpacing:
    """Chooses timesteps along a cosine, denser at both ends. ``process.timesteps(50, CosineSpacing())`` uses this
    spacing.

    Fields:
        start, end: the first and the last timestep, as fractions of the way from sound (0) to noise (1).

    Raises:
        InputError: 0 <= end < start <= 1 does not hold.
    """

    start: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        _check_fractions("cosine spacing", self.start, self.end)

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps, such as ``CosineSpacing().timesteps(CosineSchedule(), 50, 1.0)``.
        :class:`TimestepSpacing` explains the arguments.
        """
        wave = (1 + np.cos(np.pi * np.linspace(0, 1, num_steps + 1))) / 2
        return _between(schedule, strength * self.start, self.end, wave)


@dataclass(frozen=True)
class KarrasSpacing:
    """Chooses timesteps at which sigma / alpha falls from sigma_max to sigma_min. The last timestep is 0.

    (sigma / alpha)^(1/rho) falls in even steps (Karras et al. 2022, equation 5). The steps of sigma / alpha are
    therefore smaller at low noise. ``process.timesteps(50, KarrasSpacing())`` uses this spacing.

    Fields:
        sigma_max, sigma_min: the highest and the lowest sigma / alpha, both above 0.
        rho: a number of at least 1. A larger rho makes smaller steps at low noise.

    Raises:
        InputError: 0 < sigma_min < sigma_max does not hold, or rho is below 1.
    """

    sigma_max: float = 80.0
    sigma_min: float = 0.002
    rho: float = 7.0

    def __post_init__(self):
        _check_sigmas(self.sigma_min, self.sigma_max)
        if self.rho < 1:
            raise InputError(f"rho is {self.rho}: it must be at least 1")

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps, such as ``KarrasSpacing().timesteps(CosineSchedule(), 50, 1.0)``.
        :class:`TimestepSpacing` explains the arguments.
        """
        highest, lowest = _limits(schedule, strength, self.sigma_max, self.sigma_min)
        return _at_ratios(
            schedule, np.linspace(highest ** (1 / self.rho), lowest ** (1 / self.rho), num_steps) ** self.rho
        )


@dataclass(frozen=True)
class ExponentialSpacing:
    """Chooses timesteps at which log(sigma / alpha) falls in even steps from log(sigma_max) to log(sigma_min). The last
    timestep is 0.

    The defaults are those of Stable Audio Open, for latents with a standard deviation of 1 (Evans et al. 2024).
    ``process.timesteps(50, ExponentialSpacing())`` uses this spacing.

    Fields:
        sigma_max, sigma_min: the highest and the lowest sigma / alpha, both above 0.

    Raises:
        InputError: 0 < sigma_min < sigma_max does not hold.
    """

    sigma_max: float = 500.0
    sigma_min: float = 0.3

    def __post_init__(self):
        _check_sigmas(self.sigma_min, self.sigma_max)

    def timesteps(self, schedule: Schedule, num_steps: int, strength: float) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps, such as ``ExponentialSpacing().timesteps(CosineSchedule(), 50,
        1.0)``. :class:`TimestepSpacing` explains the arguments.
        """
        return _at_ratios(
            schedule, np.geomspace(*_limits(schedule, strength, self.sigma_max, self.sigma_min), num_steps)
        )


def _check_sigmas(lowest: float, highest: float) -> None:
    if not 0 < lowest < highest:
        raise InputError(
            f"sigma_min and sigma_max are {lowest} and {highest}: sigma_min must be above 0 and below sigma_max"
        )


def _limits(schedule: Schedule, strength: float, highest: float, lowest: float) -> tuple[float, float]:
    """Returns the highest and the lowest sigma / alpha of sampling. Neither is above the value of sigma / alpha at the
    start of sampling.
    """
    # The values must be concrete, even while JAX traces the caller.
    with jax.ensure_compile_time_eval():
        alpha, sigma = (float(a) for a in schedule.alpha_sigma(jnp.float32(schedule.part(strength))))
    highest = min(highest, sigma / max(alpha, 1e-6))
    return highest, min(lowest, highest)


def _at_ratios(schedule: Schedule, ratios: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    """Returns the timesteps at which sigma / alpha equals each ratio, followed by the timestep 0."""
    with jax.ensure_compile_time_eval():
        return np.append(np.asarray(schedule.time(jnp.asarray(ratios, jnp.float32))), 0.0)


def _between(schedule: Schedule, start: float, end: float, weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns timesteps between two fractions, `start` and `end`, of the way from sound to noise. Weight 1 gives the
    start, and weight 0 gives the end.
    """
    times = schedule.part(start) * weight
    return times + schedule.part(end) * (1 - weight) if end else times


SPACINGS = {
    "linear": LinearSpacing,
    "cosine": CosineSpacing,
    "karras": KarrasSpacing,
    "exponential": ExponentialSpacing,
}
"""Maps the name of each timestep spacing to its class."""
