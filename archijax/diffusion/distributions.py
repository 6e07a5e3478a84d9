"""Contains distributions of the training time t. Each distribution is an object with a method ``quantile``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float


@runtime_checkable
class TimeDistribution(Protocol):
    """Describes a distribution of training times, such as ``Uniform()`` or ``LogNormal()``. The field `training` of a
    :class:`GaussianProcess` takes such an object.

    ``quantile(u)`` with uniform numbers u in (0, 1) draws times in the shape of u.
    """

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time, in the shape of u. Uniform numbers u in (0, 1) give random times."""


@dataclass(frozen=True)
class Uniform:
    """Draws training times that are uniformly distributed in (0, 1). ``Uniform().quantile(u)`` equals u."""

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time, in the shape of u. Uniform numbers u in (0, 1) give random times."""
        return u


@dataclass(frozen=True)
class Discrete:
    """Draws the times k / num_steps for k = 1 ... num_steps with equal probability.

    :func:`ddpm` uses this distribution. ``Discrete(1000).quantile(jax.random.uniform(key, (n,)))`` draws n times.

    Fields:
        num_steps: the number of different times.
    """

    num_steps: int

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time, in the shape of u. Uniform numbers u in (0, 1) give random times."""
        # Rounding can make a stratified u exactly 1.
        return jnp.minimum(jnp.floor(u * self.num_steps) + 1, self.num_steps) / self.num_steps


@dataclass(frozen=True)
class LogNormal:
    """Draws training times t whose logarithm ln t is normally distributed (Karras et al. 2022, table 1).

    :func:`edm` uses this distribution. ``LogNormal().quantile(jax.random.uniform(key, (n,)))`` draws n times.

    Fields:
        mean, std: the mean and the standard deviation of ln t.
    """

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time, in the shape of u. Uniform numbers u in (0, 1) give random times."""
        return jnp.exp(self.mean + self.std * _normal(u))


@dataclass(frozen=True)
class LogitNormal:
    """Draws training times t for which ln(t / (1 - t)) is normally distributed (Esser et al. 2024, section 3.1). With
    the default values, times near 1/2 are the most frequent.

    :func:`rectified_flow` uses this distribution. ``LogitNormal().quantile(jax.random.uniform(key, (n,)))`` draws n
    times.

    Fields:
        mean, std: the mean and the standard deviation of ln(t / (1 - t)).
    """

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the u-quantiles of the time, in the shape of u. Uniform numbers u in (0, 1) give random times."""
        return jax.nn.sigmoid(self.mean + self.std * _normal(u))


def stratified(u: Float[Array, " b"], within: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns one uniform number in each of b equal intervals of (0, 1), in random order (Kingma et al. 2021, appendix
    I.1).

    ``stratified(*jax.random.uniform(key, (2, b)))`` returns an array [b].

    Args:
        u: uniform numbers [b] in (0, 1). The rank of ``u[i]`` in u chooses the interval of ``result[i]``.
        within: uniform numbers [b] in (0, 1). ``within[i]`` is the position of ``result[i]`` in its interval.
    """
    ranks = jnp.argsort(jnp.argsort(u))
    return (ranks.astype(u.dtype) + within) / len(u)


def _normal(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # A uniform number can be 0. Its quantile would be infinite.
    tiny = jnp.finfo(u.dtype).eps
    return ndtri(jnp.clip(u, tiny, 1 - tiny))
