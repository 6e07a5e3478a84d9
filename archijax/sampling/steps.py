"""Samplers: what takes x at time t to x at an earlier time, in terms of alpha, sigma and (x0, eps).

Every sampler is a frozen dataclass with one pure method, ``step``; all work with every diffusion method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""(x [b, ...], t [b]) -> the prediction that the process names, [b, ...]."""


class Sampler(Protocol):
    """One step of sampling."""

    @property
    def draws(self) -> int:
        """How many draws of noise a step uses, each as x."""

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: jax.Array,
        t: jax.Array,
        t_next: jax.Array,
        *,
        noise: jax.Array | None = None,
        x0_last: jax.Array | None = None,
        t_last: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """From x at t to x at t_next.

        Args:
            x: [b, ...].
            t, t_next: [b], or what multiplies x, such as [b, time, 1].
            noise: standard normal draws [draws, b, ...]; None where there are none.
            x0_last, t_last: the estimate of the step before this and its time, for methods with memory; None, or
                t_last = t, at the first step.

        Returns:
            (x at t_next, the estimate of x0 made at t), both [b, ...].
        """


@dataclass(frozen=True)
class DDIM:
    """x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z, s = eta * posterior deviation (Song et al. 2021, equation 12).

    eta 0 is deterministic (and the first-order DPM-Solver), eta 1 in distribution the ancestral sampler with posterior
    variance. Over ascending times, eta 0 turns sound into the noise it would come from.
    """

    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}: it must be at least 0 (deterministic) and at most 1 (ancestral)")

    @property
    def draws(self) -> int:
        return int(self.eta > 0)

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        x0, eps = process.x0_eps(denoise(x, t), x, t)
        if self.eta == 0:
            return process.add_noise(x0, eps, t_next), x0
        alpha, sigma = process.alpha_sigma(t_next, x)
        _, variance = _transition(process, x, t, t_next)
        deviation = self.eta * sigma / process.alpha_sigma(t, x)[1] * jnp.sqrt(variance)
        rest = jnp.sqrt(jnp.maximum(sigma**2 - deviation**2, 0))
        return alpha * x0 + rest * eps + deviation * noise[0], x0


@dataclass(frozen=True)
class DDPM:
    """The ancestral sampler: the mean of q(x' | x, x0) and noise (Ho et al. 2020, algorithm 2), over any times.

    variance: of the noise: 0 for that of q(x' | x, x0), the least; 1 for that of q(x | x'), the thesis's; between them
    interpolated in the log (Nichol & Dhariwal 2021, equation 15). With few steps the first leaves too little noise and
    the second far too much, while the middle keeps the deviation of a Gaussian. The last step adds none.
    """

    variance: float = 0.5
    draws = 1

    def __post_init__(self):
        if not 0 <= self.variance <= 1:
            raise InputError(f"the variance of DDPM is {self.variance}: it must be at least 0 and at most 1")

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        x0, _ = process.x0_eps(denoise(x, t), x, t)
        alpha, sigma = process.alpha_sigma(t_next, x)
        ratio, variance = _transition(process, x, t, t_next)
        # sigma'^2 / sigma^2, the weight of x against x0, and the factor between the two variances.
        kept = (sigma / process.alpha_sigma(t, x)[1]) ** 2
        mean = ratio * kept * x + alpha * (1 - ratio**2 * kept) * x0
        deviation = jnp.sqrt(variance * kept ** (1 - self.variance))
        return mean + jnp.where(sigma > 0, deviation, 0) * noise[0], x0


@dataclass(frozen=True)
class Heun:
    """DDIM's step, then again with the means of x0 and eps at both ends: second order, two calls of the net a step.

    x' = x + (alpha' - alpha) x0 + (sigma' - sigma) eps. With one end's x0 and eps that is DDIM, for EDM and rectified
    flow also Euler's step; with the means it is for EDM the paper's (Karras et al. 2022, algorithm 1). The step to
    sigma = 0 is DDIM's.
    """

    draws = 0

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        x0, eps = process.x0_eps(denoise(x, t), x, t)
        end = process.add_noise(x0, eps, t_next)
        last = process.alpha_sigma(t_next, x)[1] <= 0

        def corrected(x: jax.Array, end: jax.Array) -> jax.Array:
            # At sigma = 0 eps may not be finite: it is not computed there, nor are its gradients.
            t_end = jnp.where(last.reshape(jnp.shape(t)), t, t_next)
            x_end = jnp.where(last, x, end)
            x0_end, eps_end = process.x0_eps(denoise(x_end, t_end), x_end, t_end)
            (alpha, sigma), (alpha_next, sigma_next) = process.alpha_sigma(t, x), process.alpha_sigma(t_next, x)
            better = x + (alpha_next - alpha) * (x0 + x0_end) / 2 + (sigma_next - sigma) * (eps + eps_end) / 2
            return jnp.where(last, end, better)

        # The net is not called where nothing is left to correct.
        return jax.lax.cond(jnp.all(last), lambda x, end: end, corrected, x, end), x0


@dataclass(frozen=True)
class DPMSolverPP:
    """DPM-Solver++(2M), second order in log(alpha / sigma) with one call of the net a step (Lu et al. 2022).

    stochastic: its SDE form, which adds noise. The first step and the one to sigma = 0 are of first order.
    """

    stochastic: bool = False

    @property
    def draws(self) -> int:
        return int(self.stochastic)

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        x0, _ = process.x0_eps(denoise(x, t), x, t)
        alpha, sigma = process.alpha_sigma(t, x)
        alpha_next, sigma_next = process.alpha_sigma(t_next, x)
        estimate = x0
        if x0_last is not None and t_last is not None:
            now = _log_ratio(alpha, sigma)
            ahead = _log_ratio(alpha_next, sigma_next) - now
            behind = now - _log_ratio(*process.alpha_sigma(t_last, x))
            usable = (behind > 0) & (sigma_next > 0)
            # Towards the middle of the step, along the line through the last two estimates.
            slope = jnp.where(usable, ahead / (2 * jnp.where(usable, behind, 1)), 0)
            estimate = x0 + slope * (x0 - x0_last)
        if not self.stochastic:
            kept = sigma_next / sigma
            return kept * x + (alpha_next - kept * alpha) * estimate, x0
        # exp(-h), h the step in log(alpha / sigma).
        shrink = alpha * sigma_next / (alpha_next * sigma)
        fresh = 1 - shrink**2
        x = sigma_next / sigma * shrink * x + alpha_next * fresh * estimate
        return x + sigma_next * jnp.sqrt(jnp.maximum(fresh, 0)) * noise[0], x0


@dataclass(frozen=True)
class PingPong:
    """The estimate of x0, noised anew to each time: x' = alpha' x0 + sigma' z (Song et al. 2023, algorithm 1).

    For nets that are distilled to give x0 at once, in few steps, as Stable Audio Open Small is (Novack et al. 2025).
    """

    draws = 1

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        x0, _ = process.x0_eps(denoise(x, t), x, t)
        return process.add_noise(x0, noise[0], t_next), x0


SAMPLERS: dict[str, Sampler] = {
    "ddim": DDIM(),
    "ddpm": DDPM(),
    "euler": DDIM(),
    "heun": Heun(),
    "dpm++": DPMSolverPP(),
    "dpm++sde": DPMSolverPP(stochastic=True),
    "pingpong": PingPong(),
}
"""Samplers by name; Euler's step between two points of (alpha, sigma) is DDIM."""


def get_sampler(name: str) -> Sampler:
    """The sampler of this name. Raises InputError for a name that is none."""
    if name not in SAMPLERS:
        raise InputError(f"sampler is {name!r}: it must be one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def renoised(process: GaussianProcess, x: jax.Array, t: jax.Array, t_next: jax.Array, noise: jax.Array) -> jax.Array:
    """Back from x at t_next to the noisier t: a draw of q(x_t | x_{t_next})."""
    ratio, variance = _transition(process, x, t, t_next)
    return ratio * x + jnp.sqrt(variance) * noise


def _transition(process: GaussianProcess, x: jax.Array, t: jax.Array, t_next: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Factor and variance of q(x_t | x_{t_next}) = N(ratio x_{t_next}, variance)."""
    alpha, sigma = process.alpha_sigma(t, x)
    alpha_next, sigma_next = process.alpha_sigma(t_next, x)
    ratio = alpha / alpha_next
    return ratio, jnp.maximum(sigma**2 - (ratio * sigma_next) ** 2, 0)


def _log_ratio(alpha: jax.Array, sigma: jax.Array) -> jax.Array:
    # At the cosine schedule's noise alpha vanishes: as if t were at most 1 - 1e-3. Where sigma does, nothing is used.
    return jnp.log(jnp.maximum(alpha, 1e-3)) - jnp.log(jnp.maximum(sigma, jnp.finfo(sigma.dtype).tiny))
