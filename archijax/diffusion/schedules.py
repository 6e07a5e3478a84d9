"""Contains noise schedules, which compute alpha and sigma of x_t = alpha x0 + sigma eps from a diffusion time t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from archijax.errors import InputError


@runtime_checkable
class Schedule(Protocol):
    """Describes a noise schedule, such as ``CosineSchedule()``: alpha multiplies the sound, and sigma multiplies the
    noise. Times run from 0 (sound) to `start` (noise).
    """

    @property
    def start(self) -> float:
        """Returns the time of pure noise, at which sampling starts."""

    def alpha_sigma(self, t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Returns the tuple (alpha, sigma) at the times t, each in the shape of t."""

    def time(self, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times at which sigma / alpha equals `ratio`, in the shape of `ratio`."""

    def part(self, strength: float) -> float:
        """Returns the time at the fraction `strength` of the way from sound (0) to noise (1)."""

    def snapped(self, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Moves each of the descending times [n] to a nearby time at which the net is trained. All results differ."""


class UnitTime:
    """Serves as the base class of schedules whose nets are trained at all times from 0 to `start`."""

    start = 1.0

    def part(self, strength: float) -> float:
        """Returns the time ``strength * start``, for a strength from 0 (sound) to 1 (noise)."""
        return strength * self.start

    def snapped(self, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the times unchanged, because the net is trained at all times."""
        return times


@dataclass(frozen=True)
class CosineSchedule(UnitTime):
    """Defines the schedule alpha = cos(angle), sigma = sin(angle), for times t from 0 (sound) to 1 (noise).

    ``GaussianProcess(CosineSchedule(), "v")`` is a process with this schedule, see :func:`v_diffusion`.

    Fields:
        shift: a number above 0 that defines the angle: tan(angle) = shift * tan(pi t / 2). With shift 1, the angle is
            pi t / 2, as in the original code. A shift below 1 lowers the noise at all times between 0 and 1. Such a
            shift suits quiet sounds (amplitudes far below 1). If shift equals the RMS of the sound, sound and noise are
            equally strong at t = 1/2 (Hoogeboom et al. 2023, "simple diffusion", section 3.1).

    Raises:
        InputError: shift is not above 0.
    """

    shift: float = 1.0

    def __post_init__(self):
        if not 0 < self.shift < float("inf"):
            raise InputError(f"the shift of the schedule is {self.shift}: it must be above 0; 1 means no shift")

    def alpha_sigma(self, t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Returns the tuple (alpha, sigma) at the times t, each in the shape of t."""
        angle = t * (jnp.pi / 2)
        if self.shift != 1:
            angle = jnp.arctan2(self.shift * jnp.sin(angle), jnp.cos(angle))
        return jnp.cos(angle), jnp.sin(angle)

    def time(self, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times at which sigma / alpha equals `ratio`, in the shape of `ratio`."""
        return jnp.arctan(ratio / self.shift) * (2 / jnp.pi)


@dataclass(frozen=True)
class LinearSchedule(UnitTime):
    """Defines the schedule alpha = 1 - t, sigma = t: a straight line from sound (t = 0) to noise (t = 1) (Liu et al.
    2022, equation 1).

    ``GaussianProcess(LinearSchedule(), "velocity")`` is a process with this schedule, see :func:`rectified_flow`.
    """

    def alpha_sigma(self, t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Returns the tuple (alpha, sigma) at the times t, each in the shape of t."""
        return 1 - t, t

    def time(self, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times at which sigma / alpha equals `ratio`, in the shape of `ratio`."""
        return ratio / (1 + ratio)


@dataclass(frozen=True)
class SigmaSchedule(UnitTime):
    """Defines the schedule alpha = 1, sigma = t: the time is the standard deviation of the noise (Karras et al. 2022).

    ``GaussianProcess(SigmaSchedule(), "edm", training=LogNormal())`` has this schedule, see :func:`edm`.

    Fields:
        start: the highest time, at which sampling starts.
    """

    start: float = 80.0

    def alpha_sigma(self, t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Returns the tuple (alpha, sigma) at the times t, each in the shape of t."""
        return jnp.ones_like(t), t

    def time(self, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times at which sigma / alpha equals `ratio`, in the shape of `ratio`."""
        return ratio

    def part(self, strength: float) -> float:
        """Returns the time ``strength^7 * start``, for a strength from 0 (sound) to 1 (noise)."""
        # The strength is a fraction of the paper's ramp with rho = 7, because x at half of `start` is noise alone.
        return strength**7 * self.start


@dataclass(frozen=True)
class BetaSchedule(UnitTime):
    """Defines the schedule of DDPM, with alpha^2 + sigma^2 = 1. The discrete times are k / num_steps for k = 0 ...
    num_steps.

    At the time k / num_steps, alpha^2 is the product of 1 - beta_i over i = 1 ... k. Between the discrete times,
    log(alpha^2) is linear. ``GaussianProcess(BetaSchedule(), "eps", training=Discrete(1000))`` is a process with this
    schedule, see :func:`ddpm`.

    Fields:
        num_steps: the number of discrete steps, at least 21.
        betas: "linear" or "cosine". With "linear" and 1000 steps, beta rises from 1e-4 to 0.02 (Ho et al. 2020, section
            4). For another number of steps, both limits are multiplied by ``1000 / num_steps``. With "cosine", alpha^2
            is proportional to cos^2(pi / 2 (t + 0.008) / 1.008), and beta is at most 0.999 (Nichol & Dhariwal 2021,
            equation 17).

    Raises:
        InputError: num_steps is below 21, or betas is neither "linear" nor "cosine".
    """

    num_steps: int = 1000
    betas: Literal["linear", "cosine"] = "linear"

    def __post_init__(self):
        # With fewer steps the largest beta would be 1 or more.
        if self.num_steps < 21:
            raise InputError(f"the number of steps of the betas is {self.num_steps}: it must be at least 21")
        if self.betas not in ("linear", "cosine"):
            raise InputError(f'betas is "{self.betas}": it must be "linear" or "cosine"')

    def beta(self) -> Float[np.ndarray, " {self.num_steps}"]:
        """Returns the values of beta at the steps 1 ... num_steps, in float64."""
        if self.betas == "linear":
            return np.linspace(0.1, 20.0, self.num_steps) / self.num_steps
        squares = np.cos((np.linspace(0, 1, self.num_steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - squares[1:] / squares[:-1], 0.999)

    def _log_squares(self) -> Float[np.ndarray, " {self.num_steps}+1"]:
        """Returns the values of log(alpha^2) at the steps 0 ... num_steps, in float64."""
        return np.concatenate([[0.0], np.cumsum(np.log1p(-self.beta()))])

    def alpha_sigma(self, t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Returns the tuple (alpha, sigma) at the times t, each in the shape of t."""
        steps, values = (
            jnp.asarray(a, t.dtype) for a in (np.arange(self.num_steps + 1) / self.num_steps, self._log_squares())
        )
        log_square = jnp.interp(t, steps, values)
        return jnp.exp(log_square / 2), jnp.sqrt(-jnp.expm1(log_square))

    def time(self, ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times at which sigma / alpha equals `ratio`, in the shape of `ratio`."""
        log_squares = self._log_squares()[1:]
        # log(sigma / alpha) rises with the step. Step 0 is left out, because log(0) is not finite.
        log_ratios = (np.log(-np.expm1(log_squares)) - log_squares) / 2
        times = np.arange(1, self.num_steps + 1) / self.num_steps
        return jnp.interp(jnp.log(ratio), jnp.asarray(log_ratios, ratio.dtype), jnp.asarray(times, ratio.dtype))

    def snapped(self, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Rounds the descending times [n] to discrete times that all differ. Raises InputError if there are too few
        discrete times.
        """
        count, most = len(times) - 1, max(1, round(float(times[0]) * self.num_steps))
        if count > most:
            raise InputError(f"{count} steps are more than the {most} that the net is trained at: use fewer")
        # Times are rounded to whole steps, in ascending order. Equal steps move up; steps above the highest move down.
        indices = np.arange(count + 1)
        steps = np.round(times[::-1] * self.num_steps)
        steps = np.maximum.accumulate(steps - indices) + indices
        return (np.minimum(steps, most - count + indices) / self.num_steps)[::-1]
