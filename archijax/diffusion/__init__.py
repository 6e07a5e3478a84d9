"""The mathematics of diffusion: how noise is added to sound, and which quantity a net predicts."""

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
    """Returns the process of v-diffusion (Salimans & Ho 2022): x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps; the net
    predicts v.

    Args:
        shift: the shift of :class:`CosineSchedule`; with 1, x_t follows the equation above.
    """
    return GaussianProcess(CosineSchedule(shift), "v")


def ddpm(num_steps: int = 1000, betas: Literal["linear", "cosine"] = "linear") -> GaussianProcess:
    """Returns the process of DDPM (Ho et al. 2020): times are discrete, and the net predicts eps.

    The time that the net receives at step k is k / num_steps.

    Args:
        num_steps: the number of noise levels, at least 21. See :class:`BetaSchedule`.
        betas: "linear" or "cosine", see :class:`BetaSchedule`.
    """
    return GaussianProcess(BetaSchedule(num_steps, betas), "eps", training=Discrete(num_steps))


def edm(sigma_data: float = 0.5, sigma_range: tuple[float, float] | None = None) -> GaussianProcess:
    """Returns the process of EDM (Karras et al. 2022, table 1): x = x0 + sigma eps, with a preconditioned net.

    Training draws sigma from a log-normal distribution. The squared error of the net's output equals the weighted loss
    of equation 8 of the paper.

    Args:
        sigma_data: the standard deviation of the sounds. The noise levels of the paper, which assumes 0.5, are
            multiplied by sigma_data / 0.5.
        sigma_range: the lowest and the highest sigma of sampling; None: 0.002 and 80, each multiplied by sigma_data /
            0.5.
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
    """Returns the process of rectified flow (Liu et al. 2022): x_t = (1 - t) x0 + t eps; the net predicts dx/dt = eps -
    x0.

    Training draws t from a logit-normal distribution.
    """
    return GaussianProcess(LinearSchedule(), "velocity", training=LogitNormal())


def min_snr(process: GaussianProcess, gamma: float = 5.0) -> Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]:
    """Returns a function that turns times t into loss weights in the same shape (Hang et al. 2023, section 3.4).

    Pass this function to :class:`archijax.DiffusionModel` as `weight`: ``weight=min_snr(process)``. The weights
    multiply the squared error of the net's prediction. The weighted loss is then min(SNR, gamma) times the squared
    error of x0.

    Args:
        process: the model's process, such as ``archijax.v_diffusion()``.
        gamma: the upper limit of the signal-to-noise ratio alpha^2 / sigma^2.
    """

    def weight(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        alpha, sigma = process.schedule.alpha_sigma(t)
        # At a fixed x, an error d of the prediction a x0 + b eps is an error sigma / (a sigma - b alpha) d of x0.
        a, b = process.coefficients(t, t)
        square = jnp.square(a * sigma - b * alpha)
        return jnp.minimum(jnp.square(alpha), gamma * jnp.square(sigma)) / jnp.maximum(square, 1e-30)

    return weight
