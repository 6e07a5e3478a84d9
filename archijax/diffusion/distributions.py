"""Distributions of the training time t, each as its quantile function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float


@runtime_checkable
class TimeDistribution(Protocol):
    """A distribution of training times."""

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The u-quantiles of t. If u is uniform in (0, 1), the result has this distribution."""


@dataclass(frozen=True)
class Uniform:
    """Uniform times in (0, 1)."""

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return u


@dataclass(frozen=True)
class Discrete:
    """The times k / num_steps for k = 1 ... num_steps, with equal probability."""

    num_steps: int

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Rounding can make a stratified u exactly 1.
        return jnp.minimum(jnp.floor(u * self.num_steps) + 1, self.num_steps) / self.num_steps


@dataclass(frozen=True)
class LogNormal:
    """ln t is normal (Karras et al. 2022, table 1).

    Fields:
        mean, std: the mean and the standard deviation of ln t.
    """

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.exp(self.mean + self.std * _normal(u))


@dataclass(frozen=True)
class LogitNormal:
    """ln(t / (1 - t)) is normal, which favours the middle times (Esser et al. 2024, section 3.1).

    Fields:
        mean, std: the mean and the standard deviation of ln(t / (1 - t)).
    """

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(self.mean + self.std * _normal(u))


def stratified(u: Float[Array, " b"], within: Float[Array, " b"]) -> Float[Array, " b"]:
    """One uniform number in each of b equal intervals of (0, 1), in random order (Kingma et al. 2021, appendix I.1).

    Args:
        u: uniform numbers; the rank of u[i] chooses the interval of item i.
        within: uniform numbers; within[i] is the position in that interval, from 0 to 1.
    """
    ranks = jnp.argsort(jnp.argsort(u))
    return (ranks.astype(u.dtype) + within) / len(u)


def _normal(u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # A uniform number can be 0. Its quantile would be infinite.
    tiny = jnp.finfo(u.dtype).eps
    return ndtri(jnp.clip(u, tiny, 1 - tiny))
