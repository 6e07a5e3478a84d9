"""Which times a net is trained at: distributions of t, as functions of a uniform number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri


class TimeDistribution(Protocol):
    """A distribution of training times."""

    def quantile(self, u: jax.Array) -> jax.Array:
        """The u-quantiles: t distributed as wanted where u is uniform in (0, 1), in its shape."""


@dataclass(frozen=True)
class Uniform:
    """Every time from 0 to 1 alike."""

    def quantile(self, u: jax.Array) -> jax.Array:
        return u


@dataclass(frozen=True)
class Discrete:
    """The times k / num_steps, k = 1 ... num_steps, alike."""

    num_steps: int

    def quantile(self, u: jax.Array) -> jax.Array:
        # Rounding can make a stratified u exactly 1.
        return jnp.minimum(jnp.floor(u * self.num_steps) + 1, self.num_steps) / self.num_steps


@dataclass(frozen=True)
class LogNormal:
    """ln t is normal (Karras et al. 2022, table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: jax.Array) -> jax.Array:
        return jnp.exp(self.mean + self.std * _normal(u))


@dataclass(frozen=True)
class LogitNormal:
    """ln(t / (1 - t)) is normal: more of the middle times (Esser et al. 2024, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.mean + self.std * _normal(u))


def stratified(u: jax.Array, within: jax.Array) -> jax.Array:
    """Uniform numbers [b], one in each of b equal parts of (0, 1), in random order (Kingma et al. 2021, appendix I.1).

    Args:
        u: uniform numbers [b], whose order says which item gets which part: any keys of the items will do.
        within: uniform numbers [b], the places within the parts.
    """
    ranks = jnp.argsort(jnp.argsort(u))
    return (ranks.astype(u.dtype) + within) / len(u)


def _normal(u: jax.Array) -> jax.Array:
    # A uniform number can be 0, of which the quantile is infinite.
    tiny = jnp.finfo(u.dtype).eps
    return ndtri(jnp.clip(u, tiny, 1 - tiny))
