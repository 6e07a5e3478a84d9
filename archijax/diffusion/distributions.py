"""Distributions of the training time t. Each distribution is an object with a method ``quantile``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float


@runtime_checkable
class TimeDistribution(Protocol):
    """A distribution of training times, for the field `training` of a :class:`GaussianProcess`.

    ``quantile(u)`` with uniform numbers u in (0, 1) draws times in the shape of u.
    """

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time t. If u is uniform in (0, 1), the result is distributed like the training
        times.
        """


@dataclass(frozen=True)
class Uniform:
    """Training times that are uniformly distributed in (0, 1). ``Uniform().quantile(u)`` equals u."""

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time. Uniform numbers u in (0, 1) give random training times."""
        return u


@dataclass(frozen=True)
class Discrete:
    """The times k / num_steps for k = 1 ... num_steps, with equal probability.

    A :class:`GaussianProcess` with discrete times, such as ``archijax.ddpm()``, has this distribution as its field
    `training`. To draw n times, call ``Discrete(1000).quantile(jax.random.uniform(key, (n,)))``.

    Fields:
        num_steps: the number of different times.
    """

    num_steps: int

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time. Uniform numbers u in (0, 1) give random training times."""
        # Rounding can make a stratified u exactly 1.
        return jnp.minimum(jnp.floor(u * self.num_steps) + 1, self.num_steps) / self.num_steps


@dataclass(frozen=True)
class LogNormal:
    """Training times t whose logarithm ln t is normally distributed (Karras et al. 2022, table 1).

    :func:`edm` uses this distribution. ``LogNormal().quantile(jax.random.uniform(key, (n,)))`` draws n times.

    Fields:
        mean, std: the mean and the standard deviation of ln t.
    """

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time. Uniform numbers u in (0, 1) give random training times."""
        return jnp.exp(self.mean + self.std * _normal(u))


@dataclass(frozen=True)
class LogitNormal:
    """Training times t for which ln(t / (1 - t)) is normally distributed, so that times near 1/2 are frequent (Esser et
    al. 2024, section 3.1).

    :func:`rectified_flow` uses this distribution. ``LogitNormal().quantile(jax.random.uniform(key, (n,)))`` draws n
    times.

    Fields:
        mean, std: the mean and the standard deviation of ln(t / (1 - t)).
    """

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time. Uniform numbers u in (0, 1) give random training times."""
        return jax.nn.sigmoid(self.mean + self.std * _normal(u))


def stratified(u: Float[Array, " b"], within: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns one uniform number in each of b equal intervals of (0, 1), in random order (Kingma et al. 2021, appendix
    I.1).

    ``stratified(*jax.random.uniform(key, (2, b)))`` returns b numbers [b].

    Args:
        u: uniform numbers in (0, 1); the rank of u[i] chooses the interval of result i.
        within: uniform numbers in (0, 1); within[i] is the position of result i in its interval.
    """
    ranks = jnp.argsort(jnp.argsort(u))
    return (ranks.astype(u.dtype) + within) / len(u)


def _normal(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # A uniform number can be 0. Its quantile would be infinite.
    tiny = jnp.finfo(u.dtype).eps
    return ndtri(jnp.clip(u, tiny, 1 - tiny))
