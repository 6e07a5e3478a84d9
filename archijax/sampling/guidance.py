"""What is done to predictions before a step uses them: guidance, and limits on the estimated sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.nn.conditioning import guide
from archijax.sampling.steps import Denoise


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Guidance:
    """Classifier-free guidance: negative + (conditional - negative) * scale (Ho & Salimans 2022, equation 6).

    The negative prediction is that for no prompt, or for a negative prompt.

    Fields:
        scale: 1 for none; a number, or one per item [b].
        rescale: phi in [0, 1], how far the deviation of the estimated sound over the whole item is brought back to that
            of the conditional estimate, against too loud sounds at large scales (Lin et al. 2024, equation 16).
        interval: (lowest, highest) time at which to guide; outside it the scale is 1 (Kynkäänniemi et al. 2024).
        sequential: call the net twice rather than once with twice the batch: less memory, same result.
    """

    scale: float | jax.Array = 1.0
    rescale: float | jax.Array = 0.0
    interval: tuple[float | jax.Array, float | jax.Array] | None = None
    sequential: bool = field(default=False, metadata={"static": True})

    def combine(
        self, process: GaussianProcess, conditional: jax.Array, negative: jax.Array, x: jax.Array, t: jax.Array
    ) -> jax.Array:
        """The guided prediction [b, ...] from both predictions at x [b, ...] and t [b]."""
        shape = (-1, *(1,) * (conditional.ndim - 1))
        scale = jnp.asarray(self.scale, conditional.dtype)
        if scale.shape not in ((), (1,), (len(conditional),)):
            raise InputError(f"the guidance scale has shape {scale.shape}: one, or one per item [{len(conditional)}]")
        if self.interval is not None:
            low, high = (jnp.asarray(edge, t.dtype) for edge in self.interval)
            scale = jnp.where((low <= t) & (t <= high), scale, jnp.ones((), scale.dtype))
        prediction = guide(conditional, negative, scale.reshape(shape) if scale.ndim else scale)
        if isinstance(self.rescale, int | float) and self.rescale == 0:
            return prediction
        axes, phi = tuple(range(1, prediction.ndim)), jnp.asarray(self.rescale, prediction.dtype)
        # Of the sound: what another prediction deviates by is mostly the noise.
        x0, wanted = (process.x0_eps(y, x, t)[0] for y in (prediction, conditional))
        ratio = jnp.std(wanted, axis=axes, keepdims=True) / jnp.maximum(jnp.std(x0, axis=axes, keepdims=True), 1e-8)
        return _prediction(process, x0 * (phi * ratio + (1 - phi)), x, t)


def guided(
    predictor: Callable[[Any], Denoise], process: GaussianProcess, guidance: Guidance, positive: Any, negative: Any
) -> Denoise:
    """Classifier-free guidance as a ``denoise(x, t)``.

    Args:
        predictor: makes a ``denoise`` from conditioning, arrays [b, ...] in any pytree.
        positive, negative: the conditioning to lead to and away from, of the same shapes.
    """
    if guidance.sequential:
        toward, away = predictor(positive), predictor(negative)
        return lambda x, t: guidance.combine(process, toward(x, t), away(x, t), x, t)
    both = predictor(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), positive, negative))

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        predictions = both(jnp.concatenate([x, x]), jnp.concatenate([t, t]))
        return guidance.combine(process, *jnp.split(predictions, 2), x, t)

    return denoise


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
        return _prediction(process, change(process.x0_eps(denoise(x, t, *along), x, t)[0]), x, t)

    return changed


def _prediction(process: GaussianProcess, x0: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """The prediction at x that gives an estimate x0, and the eps with which x = alpha x0 + sigma eps."""
    alpha, sigma = process.alpha_sigma(t, x)
    return process.target(x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-8), t)
