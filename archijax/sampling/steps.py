"""Contains samplers. A step moves x from one timestep to the next, by equations in alpha, sigma, x0 and eps.

Every sampler is a frozen dataclass with one pure method, ``step``. Every sampler works with every diffusion process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError

Denoise = Callable[[Float[Array, " b *shape"], Float[Array, " b *time"]], Float[Array, " b *shape"]]
"""``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``, in the shape of x [b, ...].
The times t are [b], or broadcast against x, such as [b, time, 1].
"""


@runtime_checkable
class Sampler(Protocol):
    """Describes a sampler, which moves x from one timestep to the next. ``model.sample(..., sampler=DDIM())`` takes a
    sampler.
    """

    @property
    def draws(self) -> int:
        """Returns the number of noise arrays that a step uses, each in the shape of x."""

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        Args:
            process: the diffusion process, such as ``archijax.v_diffusion()`` or ``model.process``.
            denoise: a function ``denoise(x, t)`` that returns the net's prediction of ``process.prediction``, in the
                shape of x.
            x: the noisy sound at t, [b, ...].
            t, t_next: one time per item of the batch [b], or times that broadcast against x, such as [b, time, 1].
            noise: standard normal noise [self.draws, b, ...], or None if ``self.draws`` is 0.
            x0_last, t_last: the estimate of x0 at the previous step, and the time of that step. Only multistep methods
                use x0_last and t_last. At the first step both are None, or t_last equals t.
        """


@dataclass(frozen=True)
class DDIM:
    """Takes the step x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z (Song et al. 2021, equation 12).

    A prime marks values at t_next, z is standard normal noise, and s is eta times the standard deviation of q(x' | x,
    x0).

    Fields:
        eta: the amount of noise of each step, from 0 to 1. With eta 0, the sampler is deterministic and equals the
            first-order DPM-Solver. Over ascending times, a sampler with eta 0 turns a sound into the noise from which
            sampling recovers the sound. With eta 1, the result has the distribution of :class:`DDPM` with variance 0.

    Raises:
        InputError: eta is not in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}: it must be at least 0 (deterministic) and at most 1 (ancestral)")

    @property
    def draws(self) -> int:
        """Returns the number of noise arrays of a step: 1 if eta is above 0, and otherwise 0."""
        return int(self.eta > 0)

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. If eta is above 0, the
        argument noise must be standard normal noise [1, b, ...]. :meth:`Sampler.step` explains all arguments.
        """
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
    """Takes the ancestral step, which adds noise to the mean of q(x' | x, x0) (Ho et al. 2020, algorithm 2). A prime
    marks values at t_next. The sampler works with any descending timesteps.

    Fields:
        variance: a number from 0 to 1 that chooses the variance of the noise. With 0, the noise has the variance of
            q(x' | x, x0), the smallest possible. With 1, the noise has the variance of q(x | x'), as in ArchiSound. A
            number between 0 and 1 interpolates the logarithm of the variance (Nichol & Dhariwal 2021, equation 15).
            With few sampling steps, 0 adds too little noise, and 1 adds far too much noise. With 0.5, Gaussian data
            keep their standard deviation. The step to sigma = 0 adds no noise.

    Raises:
        InputError: variance is not in [0, 1].
    """

    variance: float = 0.5
    draws = 1

    def __post_init__(self):
        if not 0 <= self.variance <= 1:
            raise InputError(f"the variance of DDPM is {self.variance}: it must be at least 0 and at most 1")

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. The argument noise must
        be standard normal noise [1, b, ...]. :meth:`Sampler.step` explains all arguments.
        """
        x0, _ = process.x0_eps(denoise(x, t), x, t)
        alpha, sigma = process.alpha_sigma(t_next, x)
        ratio, variance = _transition(process, x, t, t_next)
        # sigma'^2 / sigma^2 is the weight of x in the mean, and the factor between the two variances.
        sigma_ratio = (sigma / process.alpha_sigma(t, x)[1]) ** 2
        mean = ratio * sigma_ratio * x + alpha * (1 - ratio**2 * sigma_ratio) * x0
        deviation = jnp.sqrt(variance * sigma_ratio ** (1 - self.variance))
        return mean + jnp.where(sigma > 0, deviation, 0) * noise[0], x0


@dataclass(frozen=True)
class Heun:
    """Takes second-order steps. Each step calls the net twice.

    Each step first takes a step of :class:`DDIM`. The step then computes x' = x + (alpha' - alpha) x0 + (sigma' -
    sigma) eps, where x0 and eps are the means of their values at t and at t_next. A prime marks values at t_next. With
    :func:`archijax.edm`, this method is algorithm 1 of Karras et al. 2022. The step to sigma = 0 is a step of DDIM.
    """

    draws = 0

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. The argument noise is not
        used. :meth:`Sampler.step` explains all arguments.
        """
        x0, eps = process.x0_eps(denoise(x, t), x, t)
        end = process.add_noise(x0, eps, t_next)
        last = process.alpha_sigma(t_next, x)[1] <= 0

        def corrected(x: Float[Array, " b *shape"], end: Float[Array, " b *shape"]) -> Float[Array, " b *shape"]:
            # At sigma = 0 eps may not be finite. Items that end there are evaluated at t, where the gradient is finite.
            t_end = jnp.where(last.reshape(jnp.shape(t)), t, t_next)
            x_end = jnp.where(last, x, end)
            x0_end, eps_end = process.x0_eps(denoise(x_end, t_end), x_end, t_end)
            (alpha, sigma), (alpha_next, sigma_next) = process.alpha_sigma(t, x), process.alpha_sigma(t_next, x)
            heun = x + (alpha_next - alpha) * (x0 + x0_end) / 2 + (sigma_next - sigma) * (eps + eps_end) / 2
            return jnp.where(last, end, heun)

        # If all items end at sigma = 0, the second call of the net is skipped.
        return jax.lax.cond(jnp.all(last), lambda x, end: end, corrected, x, end), x0


@dataclass(frozen=True)
class DPMSolverPP:
    """Takes steps of DPM-Solver++(2M), a method of second order in log(alpha / sigma) (Lu et al. 2022). Each step calls
    the net once.

    The first step and the step to sigma = 0 are of first order.

    Fields:
        stochastic: whether to use the SDE form of the method. This form adds noise at each step.
    """

    stochastic: bool = False

    @property
    def draws(self) -> int:
        """Returns the number of noise arrays of a step: 1 if `stochastic` is True, and otherwise 0."""
        return int(self.stochastic)

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. If `stochastic` is True,
        the argument noise must be standard normal noise [1, b, ...]. :meth:`Sampler.step` explains all arguments.
        """
        x0, _ = process.x0_eps(denoise(x, t), x, t)
        alpha, sigma = process.alpha_sigma(t, x)
        alpha_next, sigma_next = process.alpha_sigma(t_next, x)
        estimate = x0
        if x0_last is not None and t_last is not None:
            log_ratio = _log_ratio(alpha, sigma)
            h = _log_ratio(alpha_next, sigma_next) - log_ratio
            h_last = log_ratio - _log_ratio(*process.alpha_sigma(t_last, x))
            usable = (h_last > 0) & (sigma_next > 0)
            # Extrapolate to the middle of the step, on the line through the last two estimates.
            slope = jnp.where(usable, h / (2 * jnp.where(usable, h_last, 1)), 0)
            estimate = x0 + slope * (x0 - x0_last)
        if not self.stochastic:
            sigma_ratio = sigma_next / sigma
            return sigma_ratio * x + (alpha_next - sigma_ratio * alpha) * estimate, x0
        # exp(-h), where h is the step in log(alpha / sigma).
        decay = alpha * sigma_next / (alpha_next * sigma)
        variance = 1 - decay**2
        x = sigma_next / sigma * decay * x + alpha_next * variance * estimate
        return x + sigma_next * jnp.sqrt(jnp.maximum(variance, 0)) * noise[0], x0


@dataclass(frozen=True)
class PingPong:
    """Adds new noise z to the estimate of x0 at each step: x' = alpha' x0 + sigma' z (Song et al. 2023, algorithm 1). A
    prime marks values at t_next.

    This sampler is for nets that are distilled to predict x0 in few steps, such as Stable Audio Open Small (Novack et
    al. 2025).
    """

    draws = 1

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. The argument noise must
        be standard normal noise [1, b, ...]. :meth:`Sampler.step` explains all arguments.
        """
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
"""Maps names to samplers. "euler" is another name of "ddim", because a step of DDIM is Euler's method from one (alpha,
sigma) to the next.
"""


def get_sampler(name: str) -> Sampler:
    """Returns the sampler with this name: "ddim", "ddpm", "euler", "heun", "dpm++", "dpm++sde" or "pingpong". Raises
    InputError for any other name.
    """
    if name not in SAMPLERS:
        raise InputError(f"sampler is {name!r}: it must be one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def renoised(
    process: GaussianProcess,
    x: Float[Array, " b *shape"],
    t: Float[Array, " b *time"],
    t_next: Float[Array, " b *time"],
    noise: Float[Array, " b *shape"],
) -> Float[Array, " b *shape"]:
    """Raises the noise level of x from the level at t_next to the level at t, by adding noise. The result, in the shape
    of x, is a sample of q(x_t | x_{t_next}).

    Args:
        process: the diffusion process, such as ``archijax.v_diffusion()``.
        t, t_next: one time per item of the batch [b], where t has the higher noise level.
        noise: standard normal noise in the shape of x.
    """
    ratio, variance = _transition(process, x, t, t_next)
    return ratio * x + jnp.sqrt(variance) * noise


def _transition(
    process: GaussianProcess,
    x: Float[Array, " b *shape"],
    t: Float[Array, " b *time"],
    t_next: Float[Array, " b *time"],
) -> tuple[Float[Array, " b *t"], Float[Array, " b *t"]]:
    """Returns the tuple (ratio, variance) of the distribution q(x_t | x_{t_next}) = N(ratio x_{t_next}, variance)."""
    alpha, sigma = process.alpha_sigma(t, x)
    alpha_next, sigma_next = process.alpha_sigma(t_next, x)
    ratio = alpha / alpha_next
    return ratio, jnp.maximum(sigma**2 - (ratio * sigma_next) ** 2, 0)


def _log_ratio(alpha: Float[Array, "*t"], sigma: Float[Array, "*t"]) -> Float[Array, "*t"]:
    # The cosine schedule has alpha = 0 at t = 1. The bound of alpha limits t to about 1 - 1e-3. At sigma = 0 the
    # result is not used.
    return jnp.log(jnp.maximum(alpha, 1e-3)) - jnp.log(jnp.maximum(sigma, jnp.finfo(sigma.dtype).tiny))
