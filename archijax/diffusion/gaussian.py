"""The Gaussian process x_t = alpha(t) x0 + sigma(t) eps, and the conversions between what a net may predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from .schedules import Schedule

Prediction = Literal["v", "x0", "eps"]


@dataclass(frozen=True)
class GaussianProcess:
    """One diffusion method: a schedule, and the quantity the net predicts.

    All methods take x0, eps, x and predictions as [b, ...] and t as [b] (or a scalar); arithmetic is in the type of x.
    """

    schedule: Schedule
    prediction: Prediction

    def alpha_sigma(self, t: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """alpha and sigma of t [b] or scalar, shaped to multiply x [b, ...]."""
        t = jnp.asarray(t)
        t = t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t
        return self.schedule.alpha_sigma(t)

    def noised(self, x0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
        """x_t = alpha x0 + sigma eps."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * eps

    def target(self, x0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
        """What the net is trained to give for x_t: v = alpha eps - sigma x0, or x0, or eps."""
        if self.prediction == "v":
            alpha, sigma = self.alpha_sigma(t, x0)
            return alpha * eps - sigma * x0
        return x0 if self.prediction == "x0" else eps

    def x0_eps(self, prediction: jax.Array, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The sound and the noise that a prediction at x_t implies; x = alpha x0 + sigma eps holds exactly.

        An x0 prediction says nothing of eps at sigma = 0, an eps prediction nothing of x0 at alpha = 0: there the
        result is not finite.
        """
        alpha, sigma = self.alpha_sigma(t, x)
        if self.prediction == "v":
            # With alpha^2 + sigma^2 = 1, (alpha, sigma) is a rotation; the norm covers other schedules.
            norm = alpha * alpha + sigma * sigma
            return (alpha * x - sigma * prediction) / norm, (sigma * x + alpha * prediction) / norm
        if self.prediction == "x0":
            return prediction, (x - alpha * prediction) / sigma
        return (x - sigma * prediction) / alpha, prediction
