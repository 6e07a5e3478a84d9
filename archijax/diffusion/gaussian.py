"""The Gaussian process x_t = alpha(t) x0 + sigma(t) eps, and the conversions between what a net may predict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from archijax.diffusion.distributions import TimeDistribution, Uniform
from archijax.diffusion.schedules import Schedule, SigmaSchedule
from archijax.diffusion.spacing import SPACINGS, LinearSpacing, TimestepSpacing
from archijax.errors import InputError

Prediction = Literal["v", "x0", "eps", "velocity", "score", "edm"]


@dataclass(frozen=True)
class GaussianProcess:
    """One diffusion method: a schedule, and the quantity the net predicts.

    All methods take x0, eps, x and predictions as [b, ...] and t as [b], a scalar, or any shape that multiplies x (such
    as [b, time, 1]); arithmetic is in the type of x.

    Fields:
        schedule: alpha and sigma of t.
        prediction: "v" = alpha eps - sigma x0; "x0"; "eps"; "velocity" = dx/dt = alpha' x0 + sigma' eps; "score" =
            -eps / sigma; "edm" = (x0 - c_skip x) / c_out (Karras et al. 2022, equation 7), for alpha = 1 only.
        training: the distribution of training times.
        timestep_spacing: of sampling, see :meth:`timesteps`.
        sigma_data: the standard deviation of the sounds, used by "edm".
    """

    schedule: Schedule
    prediction: Prediction
    training: TimeDistribution = field(default_factory=Uniform)
    timestep_spacing: TimestepSpacing = field(default_factory=LinearSpacing)
    sigma_data: float = 0.5

    def __post_init__(self):
        if self.prediction == "edm" and not isinstance(self.schedule, SigmaSchedule):
            raise InputError(f'the prediction "edm" is made for SigmaSchedule, not {type(self.schedule).__name__}')

    def alpha_sigma(self, t: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """alpha and sigma of t, shaped to multiply x."""
        return self.schedule.alpha_sigma(_shaped(t, x))

    def add_noise(self, x0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
        """x_t = alpha x0 + sigma eps."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def target(self, x0: jax.Array, eps: jax.Array, t: jax.Array, prediction: Prediction | None = None) -> jax.Array:
        """What the net is trained to give for x_t, or another prediction by its name.

        Together with :meth:`x0_eps` it converts: ``target(*x0_eps(prediction, x, t), t, "score")``.
        """
        prediction = prediction or self.prediction
        if prediction in ("x0", "eps"):
            return x0 if prediction == "x0" else eps
        a, b = self.coefficients(t, x0, prediction)
        return a * x0 + b * eps

    def x0_eps(self, prediction: jax.Array, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The sound and the noise that a prediction at x_t implies; x = alpha x0 + sigma eps holds exactly.

        An x0 prediction says nothing of eps at sigma = 0, an eps prediction nothing of x0 at alpha = 0: there the
        result is not finite.
        """
        alpha, sigma = self.alpha_sigma(t, x)
        if self.prediction == "x0":
            return prediction, (x - alpha * prediction) / sigma
        if self.prediction == "eps":
            return (x - sigma * prediction) / alpha, prediction
        # prediction = a x0 + b eps and x = alpha x0 + sigma eps, solved for x0 and eps.
        a, b = self.coefficients(t, x)
        determinant = a * sigma - b * alpha
        return (sigma * prediction - b * x) / determinant, (a * x - alpha * prediction) / determinant

    def net_input(self, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the net is called with for (x_t, t): (x, t) themselves, but for "edm" (c_in x, ln(sigma) / 4)."""
        if self.prediction != "edm":
            return x, t
        sigma = _shaped(t, x)
        # Without noise ln(sigma) is not finite; the net knows no sigma below the lowest that is sampled at.
        lowest = 0.002 * self.sigma_data / 0.5
        return x / jnp.sqrt(sigma**2 + self.sigma_data**2), jnp.log(jnp.maximum(t, lowest)) / 4

    def timesteps(
        self, num_steps: int, timestep_spacing: str | TimestepSpacing | None = None, *, strength: float = 1.0
    ) -> np.ndarray:
        """num_steps + 1 sampling timesteps, descending, the last of them 0 unless the spacing ends before.

        Args:
            num_steps: at least 1.
            timestep_spacing: "linear", "cosine", "karras", "exponential", or one of
                :mod:`archijax.diffusion.spacing` with settings of its own. None is the process' own.
            strength: the part of the way to noise that is gone back; 1 is all of it.

        Raises:
            InputError: a number of steps, a strength or a name that is not possible.
        """
        if num_steps < 1:
            raise InputError(f"the number of steps is {num_steps}: it must be at least 1")
        if not 0 < strength <= 1:
            raise InputError(f"the strength is {strength}: it must be above 0 and at most 1")
        spacing = timestep_spacing or self.timestep_spacing
        if isinstance(spacing, str):
            if spacing not in SPACINGS:
                raise InputError(f'timestep_spacing is "{spacing}": {", ".join(SPACINGS)} are known')
            own = self.timestep_spacing
            # The process' own settings, where it has some for this rule.
            spacing = own if isinstance(own, SPACINGS[spacing]) else SPACINGS[spacing]()
        return self.schedule.snapped(spacing.timesteps(self.schedule, num_steps, strength)).astype(np.float32)

    def by_noise(self, errors: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
        """Errors [b] at times t [b] by noise level, in five equal parts, each named by its middle.

        The level is 2/pi atan(sigma / alpha), from 0 (sound) to 1 (noise) with every method; of v-diffusion without a
        shift it is t.

        Returns:
            scalars NAME and NAME:weight for each part, see :data:`archijax.contract.Metrics`.
        """
        alpha, sigma = self.schedule.alpha_sigma(t)
        part = jnp.clip((jnp.arctan2(sigma, alpha) * (10 / jnp.pi)).astype(jnp.int32), 0, 4)
        metrics = {}
        for k in range(5):
            name, inside = f"loss_at_noise_{k / 5 + 0.1:.1f}", part == k
            metrics[name] = jnp.mean(jnp.where(inside, errors, 0.0))
            metrics[f"{name}:weight"] = jnp.mean(inside, dtype=errors.dtype)
        return metrics

    def coefficients(
        self, t: jax.Array, x: jax.Array, prediction: Prediction | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """a and b of a prediction a x0 + b eps, by default the process' own, shaped to multiply x."""
        prediction = prediction or self.prediction
        alpha, sigma = self.alpha_sigma(t, x)
        if prediction in ("x0", "eps"):
            one, zero = jnp.ones_like(sigma), jnp.zeros_like(sigma)
            return (one, zero) if prediction == "x0" else (zero, one)
        if prediction == "v":
            return -sigma, alpha
        if prediction == "velocity":
            t = _shaped(t, x)
            return jax.jvp(self.schedule.alpha_sigma, (t,), (jnp.ones_like(t),))[1]
        if prediction == "score":
            return jnp.zeros_like(sigma), -1 / sigma
        if prediction == "edm":
            # c_skip = data^2 / root^2 and c_out = sigma data / root put in, so that sigma = 0 divides nothing by 0.
            root = jnp.sqrt(sigma**2 + self.sigma_data**2)
            return sigma / (self.sigma_data * root), -self.sigma_data / root
        raise InputError(f'the prediction is "{prediction}": known are v, x0, eps, velocity, score and edm')


def _shaped(t: jax.Array, x: jax.Array) -> jax.Array:
    t = jnp.asarray(t)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t
