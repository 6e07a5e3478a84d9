"""What is done to predictions before a step uses them: guidance, and limits on the estimated sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.sampling.steps import Denoise


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Guidance:
    """Classifier-free guidance: negative + (conditional - negative) * scale (Ho & Salimans 2022, equation 6).

    The negative prediction is that for no prompt, or for a negative prompt.

    Fields:
        scale: 1 for none; a number, or one per item [b].
        rescale: phi in [0, 1], how far the deviation of the result over the item is brought back to that of the
            conditional prediction, against too loud sounds at large scales (Lin et al. 2024, equation 16).
        interval: (lowest, highest) time at which to guide; outside it the scale is 1 (Kynkäänniemi et al. 2024).
        sequential: call the net twice rather than once with twice the batch: less memory, same result.
    """

    scale: float | jax.Array = 1.0
    rescale: float | jax.Array = 0.0
    interval: tuple[float | jax.Array, float | jax.Array] | None = None
    sequential: bool = field(default=False, metadata={"static": True})

    def combine(self, conditional: jax.Array, negative: jax.Array, t: jax.Array) -> jax.Array:
        """The guided prediction [b, ...] from both, t [b]."""
        shape = (-1, *(1,) * (conditional.ndim - 1))
        scale = jnp.asarray(self.scale, conditional.dtype)
        if scale.shape not in ((), (1,), (len(conditional),)):
            raise InputError(f"the guidance scale has shape {scale.shape}: one, or one per item [{len(conditional)}]")
        if self.interval is not None:
            low, high = (jnp.asarray(edge, t.dtype) for edge in self.interval)
            scale = jnp.where((low <= t) & (t <= high), scale, jnp.ones((), scale.dtype))
        scale = scale.reshape(shape) if scale.ndim else scale
        guided = negative + (conditional - negative) * scale
        if isinstance(self.rescale, int | float) and self.rescale == 0:
            return guided
        axes = tuple(range(1, guided.ndim))
        wanted, found = (jnp.std(a, axis=axes, keepdims=True) for a in (conditional, guided))
        phi = jnp.asarray(self.rescale, guided.dtype)
        return guided * (phi * wanted / jnp.maximum(found, 1e-8) + (1 - phi))


def clamped(denoise: Denoise, process: GaussianProcess, limit: float = 1.0) -> Denoise:
    """``denoise`` with its estimate of the sound clipped to [-limit, limit] (Ho et al. 2020's reference code)."""
    if not limit > 0:
        raise InputError(f"the limit of the estimated sound is {limit}: it must be above 0")
    return _changed(denoise, process, lambda x0: jnp.clip(x0, -limit, limit))


def thresholded(denoise: Denoise, process: GaussianProcess, quantile: float = 0.995) -> Denoise:
    """``denoise`` with dynamic thresholding: where the quantile of an item's |x0| exceeds 1, its estimate is clipped
    there and divided by it (Saharia et al. 2022, section 2.3)."""
    if not 0 < quantile <= 1:
        raise InputError(f"the quantile of dynamic thresholding is {quantile}: it must be above 0 and at most 1")

    def limit(x0: jax.Array) -> jax.Array:
        largest = jnp.quantile(jnp.abs(x0), quantile, axis=tuple(range(1, x0.ndim)), keepdims=True)
        largest = jnp.maximum(largest, 1)
        return jnp.clip(x0, -largest, largest) / largest

    return _changed(denoise, process, limit)


def _changed(denoise: Denoise, process: GaussianProcess, change: Callable[[jax.Array], jax.Array]) -> Denoise:
    """``denoise`` with its estimate x0 changed, and eps with it so that x stays alpha x0 + sigma eps."""

    def changed(x: jax.Array, t: jax.Array, *along: Any) -> jax.Array:
        x0 = change(process.x0_eps(denoise(x, t, *along), x, t)[0])
        alpha, sigma = process.alpha_sigma(t, x)
        return process.target(x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-8), t)

    return changed
