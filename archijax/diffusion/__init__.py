"""Diffusion mathematics: how sound is noised, what a net is asked for, and what its answer means."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

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
    """v-diffusion (Salimans & Ho 2022): x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps, the net predicts v.

    Args:
        shift: of the schedule, see :class:`CosineSchedule`.
    """
    return GaussianProcess(CosineSchedule(shift), "v")


def ddpm(num_steps: int = 1000, betas: Literal["linear", "cosine"] = "linear") -> GaussianProcess:
    """DDPM (Ho et al. 2020) and, sampled with fewer steps, DDIM: discrete times, the net predicts eps.

    Args:
        num_steps, betas: of the schedule, see :class:`BetaSchedule`. The net's time is k / num_steps.
    """
    return GaussianProcess(BetaSchedule(num_steps, betas), "eps", training=Discrete(num_steps))


def edm(sigma_data: float = 0.5, sigma_range: tuple[float, float] | None = None) -> GaussianProcess:
    """k-diffusion (Karras et al. 2022, table 1): x = x0 + sigma eps, preconditioned, log-normal training sigmas.

    The squared error of the net's own output is equation 8's loss with its weighting.

    Args:
        sigma_data: the standard deviation of the sounds; the paper's other noise levels are for 0.5 and scaled with it.
        sigma_range: the lowest and the highest sigma of sampling, by default 0.002 and 80, scaled.
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
    """Rectified flow (Liu et al. 2022): x_t = (1 - t) x0 + t eps, the net predicts dx/dt = eps - x0; logit-normal t."""
    return GaussianProcess(LinearSchedule(), "velocity", training=LogitNormal())


def min_snr(process: GaussianProcess, gamma: float = 5.0) -> Callable[[jax.Array], jax.Array]:
    """Min-SNR weights of times (Hang et al. 2023, section 3.4): min(SNR, gamma) times the squared error of x0.

    Written for the error of what the net predicts. Give it to :class:`archijax.DiffusionModel` as `weight`.
    """

    def weight(t: jax.Array) -> jax.Array:
        alpha, sigma = process.schedule.alpha_sigma(t)
        # An error d of a prediction a x0 + b eps at a fixed x is one of sigma / (a sigma - b alpha) d of x0.
        a, b = process.coefficients(t, t)
        square = jnp.square(a * sigma - b * alpha)
        return jnp.minimum(jnp.square(alpha), gamma * jnp.square(sigma)) / jnp.maximum(square, 1e-30)

    return weight
