"""Defines how diffusion adds noise to sound, and which quantity a net predicts."""

import math
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.diffusion.distributions import (
    Discrete,
    LogitNormal,
    LogNormal,
    TimeDistribution,
    Uniform,
    stratified,
)
from archijax.diffusion.gaussian import GaussianProcess, Prediction
from archijax.diffusion.schedules import BetaSchedule, CosineSchedule, LinearSchedule, Schedule, SigmaSchedule
from archijax.diffusion.spacing import CosineSpacing, ExponentialSpacing, KarrasSpacing, LinearSpacing, TimestepSpacing

__all__ = [
    "BetaSchedule",
    "CosineSchedule",
    "CosineSpacing",
    "Discrete",
    "ExponentialSpacing",
    "GaussianProcess",
    "KarrasSpacing",
    "LinearSchedule",
    "LinearSpacing",
    "LogNormal",
    "LogitNormal",
    "Prediction",
    "Schedule",
    "SigmaSchedule",
    "TimeDistribution",
    "TimestepSpacing",
    "Uniform",
    "ddpm",
    "edm",
    "min_snr",
    "rectified_flow",
    "stratified",
    "v_diffusion",
]


def v_diffusion(shift: float = 1.0) -> GaussianProcess:
    """Returns the :class:`GaussianProcess` of v-diffusion, in which the net predicts v (Salimans & Ho 2022). The noisy
    sound is x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps, with the sound x0 and noise eps.

    Args:
        shift: the shift of :class:`CosineSchedule`, above 0. The equation for x_t holds for shift 1.
    """
    return GaussianProcess(CosineSchedule(shift), "v")


def ddpm(num_steps: int = 1000, betas: Literal["linear", "cosine"] = "linear") -> GaussianProcess:
    """Returns the :class:`GaussianProcess` of DDPM, with discrete times, in which the net predicts eps (Ho et al.
    2020).

    At step k, the net receives the time ``k / num_steps``.

    Args:
        num_steps: the number of noise levels, at least 21. See :class:`BetaSchedule`.
        betas: "linear" or "cosine", see :class:`BetaSchedule`.
    """
    return GaussianProcess(BetaSchedule(num_steps, betas), "eps", training=Discrete(num_steps))


def edm(sigma_data: float = 0.5, sigma_range: tuple[float, float] | None = None) -> GaussianProcess:
    """Returns the :class:`GaussianProcess` of EDM, with a preconditioned net (Karras et al. 2022, table 1). The noisy
    sound is x = x0 + sigma eps.

    Training draws sigma from a log-normal distribution. The squared error of the net's output equals the weighted loss
    of equation 8 of the paper.

    Args:
        sigma_data: the standard deviation of the sounds. The paper uses 0.5. For another sigma_data, the noise levels
            of the paper are multiplied by ``sigma_data / 0.5``.
        sigma_range: a tuple of the lowest and the highest sigma of sampling, or None for 0.002 and 80, each multiplied
            by ``sigma_data / 0.5``.
    """
    scale = sigma_data / 0.5
    lowest, highest = sigma_range or (0.002 * scale, 80.0 * scale)
    return GaussianProcess(
        SigmaSchedule(highest),
        "edm",
        training=LogNormal(-1.2 + math.log(scale), 1.2),
        timestep_spacing=KarrasSpacing(highest, lowest),
        sigma_data=sigma_data,
    )


def rectified_flow() -> GaussianProcess:
    """Returns the :class:`GaussianProcess` of rectified flow, in which the net predicts dx/dt = eps - x0 (Liu et al.
    2022). The noisy sound is x_t = (1 - t) x0 + t eps.

    Training draws t from a logit-normal distribution.
    """
    return GaussianProcess(LinearSchedule(), "velocity", training=LogitNormal())


def min_snr(process: GaussianProcess, gamma: float = 5.0) -> Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]:
    """Returns a function that turns times t into loss weights in the same shape (Hang et al. 2023, section 3.4).

    The argument `weight` of :class:`archijax.DiffusionModel` takes such a function: ``weight=min_snr(process)``. The
    weights multiply the squared error of the net's prediction. The weighted loss is then min(SNR, gamma) times the
    squared error of x0, where SNR is the signal-to-noise ratio alpha^2 / sigma^2.

    Args:
        process: the model's process, such as ``archijax.v_diffusion()``.
        gamma: the upper limit of the signal-to-noise ratio in the weights.
    """

    def weight(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        alpha, sigma = process.schedule.alpha_sigma(t)
        # At a fixed x, an error d of the prediction a x0 + b eps is an error sigma / (a sigma - b alpha) d of x0.
        a, b = process.coefficients(t, t)
        square = jnp.square(a * sigma - b * alpha)
        return jnp.minimum(jnp.square(alpha), gamma * jnp.square(sigma)) / jnp.maximum(square, 1e-30)

    return weight
