"""Contains the Gaussian process x_t = alpha(t) x0 + sigma(t) eps, and conversions between the predictions of a net."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from archijax.diffusion.distributions import TimeDistribution, Uniform
from archijax.diffusion.schedules import Schedule, SigmaSchedule
from archijax.diffusion.spacing import SPACINGS, LinearSpacing, TimestepSpacing
from archijax.errors import InputError

Prediction = Literal["v", "x0", "eps", "velocity", "score", "edm"]

Time = Float[Array | np.ndarray | np.number, "..."] | float
"""Holds the diffusion times of an array x [b, ...]: one time per item [b], a scalar, or an array that broadcasts
against x, such as [b, time, 1].
"""


@dataclass(frozen=True)
class GaussianProcess:
    """Describes a diffusion process by a noise schedule and the quantity that the net predicts.

    The functions :func:`v_diffusion`, :func:`rectified_flow`, :func:`edm` and :func:`ddpm` return a process, and a
    model has its process in ``model.process``. The methods take sounds x0, noise eps, noisy sounds x and predictions,
    all of the same shape [b, ...]. Times t are [b], a scalar, or an array that broadcasts against x. The methods
    compute in the type of x.

    Fields:
        schedule: the noise schedule, such as ``CosineSchedule()``, which computes alpha and sigma from a time.
        prediction: the name of the quantity that the net predicts: "x0", "eps", "v", "velocity", "score" or "edm". "v"
            is alpha eps - sigma x0. "velocity" is the time derivative dx/dt = alpha' x0 + sigma' eps. "score" is -eps /
            sigma. "edm" is (x0 - c_skip x) / c_out (Karras et al. 2022, equation 7) and needs a SigmaSchedule.
        training: the distribution of training times, such as ``Uniform()``.
        timestep_spacing: the default spacing of :meth:`timesteps`, such as ``LinearSpacing()``.
        sigma_data: the standard deviation of the sounds. Only the prediction "edm" uses sigma_data.

    Raises:
        InputError: the prediction is "edm", and the schedule is not a SigmaSchedule.
    """

    schedule: Schedule
    prediction: Prediction
    training: TimeDistribution = field(default_factory=Uniform)
    timestep_spacing: TimestepSpacing = field(default_factory=LinearSpacing)
    sigma_data: float = 0.5

    def __post_init__(self):
        if self.prediction == "edm" and not isinstance(self.schedule, SigmaSchedule):
            raise InputError(f'the prediction "edm" needs a SigmaSchedule, not {type(self.schedule).__name__}')

    def alpha_sigma(self, t: Time, x: Float[Array, "*x"]) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
        """Returns the tuple (alpha, sigma) at the time t. For t [b], both arrays are [b, 1, ..., 1] and broadcast
        against x.
        """
        return self.schedule.alpha_sigma(_shaped(t, x))

    def add_noise(self, x0: Float[Array, "*x"], eps: Float[Array, "*x"], t: Time) -> Float[Array, "*x"]:
        """Adds noise to x0: returns x_t = alpha x0 + sigma eps at the time t, in the shape of x0."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def target(
        self, x0: Float[Array, "*x"], eps: Float[Array, "*x"], t: Time, prediction: Prediction | None = None
    ) -> Float[Array, "*x"]:
        """Returns the prediction that a perfect net makes at x_t, in the shape of x0. This prediction is the target of
        training.

        Together, :meth:`x0_eps` and this method convert one prediction into another:
        ``process.target(*process.x0_eps(v, x, t), t, "score")`` converts v into the score.

        Args:
            prediction: the name of the quantity to return, or None for the field `prediction`.
        """
        prediction = prediction or self.prediction
        if prediction in ("x0", "eps"):
            return x0 if prediction == "x0" else eps
        a, b = self.coefficients(t, x0, prediction)
        return a * x0 + b * eps

    def x0_eps(
        self, prediction: Float[Array, "*x"], x: Float[Array, "*x"], t: Time
    ) -> tuple[Float[Array, "*x"], Float[Array, "*x"]]:
        """Returns the tuple (x0, eps), the sound and the noise that a prediction at x implies. Both have the shape of
        x, and x = alpha x0 + sigma eps.

        If the field `prediction` is "x0", eps is not finite at sigma = 0. If the field is "eps", x0 is not finite at
        alpha = 0.
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

    def net_input(self, x: Float[Array, "*x"], t: Float[Array, "*t"]) -> tuple[Float[Array, "*x"], Float[Array, "*t"]]:
        """Returns the tuple (x, t) of arguments for the net. If the field `prediction` is "edm", the tuple is (c_in x,
        ln(sigma) / 4). Both arrays keep their shapes.
        """
        if self.prediction != "edm":
            return x, t
        sigma = _shaped(t, x)
        # ln(0) is not finite, so the lowest sigma of sampling replaces all lower ones.
        lowest = 0.002 * self.sigma_data / 0.5
        return x / jnp.sqrt(sigma**2 + self.sigma_data**2), jnp.log(jnp.maximum(t, lowest)) / 4

    def timesteps(
        self, num_steps: int, timestep_spacing: str | TimestepSpacing | None = None, *, strength: float = 1.0
    ) -> Float[np.ndarray, " {num_steps}+1"]:
        """Returns num_steps + 1 descending timesteps of sampling, in float32. The last timestep is 0, unless the field
        `end` of the spacing is above 0.

        Args:
            num_steps: the number of sampling steps, at least 1.
            timestep_spacing: "linear", "cosine", "karras", "exponential", an object such as
                ``archijax.diffusion.KarrasSpacing()``, or None for the field `timestep_spacing`.
            strength: the point between sound (0) and noise (1) at which sampling starts, above 0 and at most 1.

        Raises:
            InputError: num_steps or strength is out of range, or timestep_spacing is an unknown name.
        """
        if num_steps < 1:
            raise InputError(f"the number of steps is {num_steps}: it must be at least 1")
        if not 0 < strength <= 1:
            raise InputError(f"the strength is {strength}: it must be above 0 and at most 1")
        spacing = timestep_spacing or self.timestep_spacing
        if isinstance(spacing, str):
            if spacing not in SPACINGS:
                raise InputError(f'timestep_spacing is "{spacing}": it must be one of {", ".join(SPACINGS)}')
            own = self.timestep_spacing
            # If the process has a spacing of this name, its settings are kept.
            spacing = own if isinstance(own, SPACINGS[spacing]) else SPACINGS[spacing]()
        return self.schedule.snapped(spacing.timesteps(self.schedule, num_steps, strength)).astype(np.float32)

    def by_noise(self, errors: Float[Array, " b"], t: Float[Array, " b"]) -> dict[str, Float[Array, ""]]:
        """Averages the errors of a batch in each of five equal intervals of the noise level.

        The noise level is 2/pi atan(sigma / alpha), from 0 (sound) to 1 (noise) for every process. For v-diffusion
        without a shift, the noise level equals t.

        Args:
            errors: the error of each item [b].
            t: the time of each item [b].

        Returns:
            A dictionary with two scalars for each interval. M is the middle of the interval: 0.1, 0.3, 0.5, 0.7 or 0.9.
            "loss_at_noise_M" is 1/b times the sum of the errors in the interval. "loss_at_noise_M:weight" is the
            fraction of the b items in the interval (see :data:`archijax.contract.Metrics`).
        """
        alpha, sigma = self.schedule.alpha_sigma(t)
        interval = jnp.clip((jnp.arctan2(sigma, alpha) * (10 / jnp.pi)).astype(jnp.int32), 0, 4)
        metrics = {}
        for k in range(5):
            name, inside = f"loss_at_noise_{k / 5 + 0.1:.1f}", interval == k
            metrics[name] = jnp.mean(jnp.where(inside, errors, 0.0))
            metrics[f"{name}:weight"] = jnp.mean(inside, dtype=errors.dtype)
        return metrics

    def coefficients(
        self, t: Time, x: Float[Array, "*x"], prediction: Prediction | None = None
    ) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
        """Returns the tuple (a, b) of coefficients in the equation prediction = a x0 + b eps. For t [b], both arrays
        are [b, 1, ..., 1] and broadcast against x.

        Args:
            prediction: the name of the predicted quantity, or None for the field `prediction`.

        Raises:
            InputError: prediction is an unknown name.
        """
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
            # c_skip = data^2 / root^2 and c_out = sigma data / root are inserted and simplified: no 0 / 0 at sigma = 0.
            root = jnp.sqrt(sigma**2 + self.sigma_data**2)
            return sigma / (self.sigma_data * root), -self.sigma_data / root
        raise InputError(f'the prediction is "{prediction}": it must be one of v, x0, eps, velocity, score and edm')


def _shaped(t: Time, x: Float[Array, "*x"]) -> Float[Array, "*t"]:
    """Appends axes of length 1 to t, so that t broadcasts against x."""
    t = jnp.asarray(t)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t
