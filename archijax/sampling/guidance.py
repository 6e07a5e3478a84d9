"""Contains functions that change predictions before a sampler uses them: guidance, and limits on the estimate of the
sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.nn.conditioning import guide
from archijax.sampling.steps import Denoise

Scalar = float | Float[Array | np.ndarray | np.number, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Guidance:
    """Holds the settings of classifier-free guidance (Ho & Salimans 2022, equation 6). The guided prediction is
    negative + (conditional - negative) * scale.

    The net makes the conditional prediction with the prompt, and the negative prediction with no prompt or with a
    negative prompt. ``model.sample(..., guidance=Guidance(3.0, rescale=0.7))`` uses such settings.

    Fields:
        scale: the guidance scale: one number for all items, or one number per item [b]. A scale of 1 means no guidance.
        rescale: the number phi, from 0 to 1 (Lin et al. 2024, equation 16). Large scales with rescale 0 make sounds too
            loud. With rescale 1, the guided estimate of each sound gets the standard deviation of the conditional
            estimate.
        interval: a tuple of the lowest and the highest time of guidance (Kynkäänniemi et al. 2024). Outside of this
            interval the scale is 1. If interval is None, guidance applies at all times.
        sequential: whether each step calls the net twice, instead of once with a batch of double size. Two calls need
            less memory and give the same result.
    """

    scale: Scalar | Float[Array | np.ndarray, " b"] = 1.0
    rescale: Scalar = 0.0
    interval: tuple[Scalar, Scalar] | None = None
    sequential: bool = field(default=False, metadata={"static": True})

    def combine(
        self,
        process: GaussianProcess,
        conditional: Float[Array, " b *shape"],
        negative: Float[Array, " b *shape"],
        x: Float[Array, " b *shape"],
        t: Float[Array, " b"],
    ) -> Float[Array, " b *shape"]:
        """Returns the guided prediction at x and t, in the shape of x. The guided, conditional and negative predictions
        are values of the quantity ``process.prediction``.

        Raises:
            InputError: the scale has neither the shape [] nor [b].
        """
        shape = (-1, *(1,) * (conditional.ndim - 1))
        scale = jnp.asarray(self.scale, conditional.dtype)
        if scale.shape not in ((), (1,), (len(conditional),)):
            raise InputError(
                f"the guidance scale has shape {scale.shape}: it must be one number, or one per item "
                f"[{len(conditional)}]"
            )
        if self.interval is not None:
            low, high = (jnp.asarray(edge, t.dtype) for edge in self.interval)
            scale = jnp.where((low <= t) & (t <= high), scale, jnp.ones((), scale.dtype))
        prediction = guide(conditional, negative, scale.reshape(shape) if scale.ndim else scale)
        if isinstance(self.rescale, int | float) and self.rescale == 0:
            return prediction
        axes, phi = tuple(range(1, prediction.ndim)), jnp.asarray(self.rescale, prediction.dtype)
        # The deviation is that of the estimated sound, because the deviation of v or eps is mostly that of the noise.
        x0, x0_conditional = (process.x0_eps(y, x, t)[0] for y in (prediction, conditional))
        deviation = jnp.maximum(jnp.std(x0, axis=axes, keepdims=True), 1e-8)
        ratio = jnp.std(x0_conditional, axis=axes, keepdims=True) / deviation
        return _prediction(process, x0 * (phi * ratio + (1 - phi)), x, t)


def guided(
    predictor: Callable[[PyTree[Array | np.ndarray]], Denoise],
    process: GaussianProcess,
    guidance: Guidance,
    positive: PyTree[Array | np.ndarray],
    negative: PyTree[Array | np.ndarray],
) -> Denoise:
    """Returns a function ``denoise(x, t)`` with classifier-free guidance, for :func:`sample`. For x [b, ...] and t [b],
    the function returns the guided prediction in the shape of x.

    Args:
        predictor: a function that turns conditioning into a function ``denoise(x, t)``, such as ``lambda embedding:
            lambda x, t: net.apply(variables, x, t, embedding=embedding)``.
        process: the diffusion process, such as ``archijax.v_diffusion()``.
        guidance: the guidance scale and other settings, such as ``Guidance(3.0)``.
        positive: the conditioning to guide towards, a pytree of arrays [b, ...].
        negative: the conditioning to guide away from, in the shapes of `positive`.
    """
    if guidance.sequential:
        toward, away = predictor(positive), predictor(negative)
        return lambda x, t: guidance.combine(process, toward(x, t), away(x, t), x, t)
    both = predictor(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), positive, negative))

    def denoise(x: Float[Array, " b *shape"], t: Float[Array, " b"]) -> Float[Array, " b *shape"]:
        predictions = both(jnp.concatenate([x, x]), jnp.concatenate([t, t]))
        toward, away = jnp.split(predictions, 2)
        return guidance.combine(process, toward, away, x, t)

    return denoise


def clamped(denoise: Denoise, process: GaussianProcess, limit: float = 1.0) -> Denoise:
    """Returns a function like ``denoise`` that clips the estimate of the sound to [-limit, limit], as in the code of Ho
    et al. 2020.

    ``denoise(x, t)`` must return the quantity ``process.prediction``, in the shape of x.

    Raises:
        InputError: limit is not above 0.
    """
    if not limit > 0:
        raise InputError(f"the limit of the estimated sound is {limit}: it must be above 0")
    return _changed(denoise, process, lambda x0: jnp.clip(x0, -limit, limit))


def thresholded(denoise: Denoise, process: GaussianProcess, quantile: float = 0.995) -> Denoise:
    """Returns a function like ``denoise`` that applies dynamic thresholding to the estimate of the sound (Saharia et
    al. 2022, section 2.3).

    q is the quantile of |x0| over one sound, where x0 is the estimate of this sound. If q is above 1, x0 is clipped to
    [-q, q] and divided by q. ``denoise(x, t)`` must return the quantity ``process.prediction``, in the shape of x.

    Raises:
        InputError: quantile is not in (0, 1].
    """
    if not 0 < quantile <= 1:
        raise InputError(f"the quantile of dynamic thresholding is {quantile}: it must be above 0 and at most 1")

    def limit(x0: Float[Array, " b *shape"]) -> Float[Array, " b *shape"]:
        largest = jnp.quantile(jnp.abs(x0), quantile, axis=tuple(range(1, x0.ndim)), keepdims=True)
        largest = jnp.maximum(largest, 1)
        return jnp.clip(x0, -largest, largest) / largest

    return _changed(denoise, process, limit)


def _changed(
    denoise: Denoise,
    process: GaussianProcess,
    change: Callable[[Float[Array, " b *shape"]], Float[Array, " b *shape"]],
) -> Denoise:
    """Returns a function like ``denoise`` that applies the function ``change`` to the estimate x0. The implied noise
    eps changes too: x = alpha x0 + sigma eps still holds.
    """

    def changed(x: Float[Array, " b *shape"], t: Float[Array, " b *time"], *along: Any) -> Float[Array, " b *shape"]:
        return _prediction(process, change(process.x0_eps(denoise(x, t, *along), x, t)[0]), x, t)

    return changed


def _prediction(
    process: GaussianProcess, x0: Float[Array, " b *shape"], x: Float[Array, " b *shape"], t: Float[Array, " b *time"]
) -> Float[Array, " b *shape"]:
    """Returns the prediction at x that implies the estimate x0 and the noise eps = (x - alpha x0) / sigma."""
    alpha, sigma = process.alpha_sigma(t, x)
    return process.target(x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-8), t)
