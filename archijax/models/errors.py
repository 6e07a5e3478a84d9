"""Contains functions that compute errors of a diffusion net's predictions. An error compares either predicted values
with their targets, or the sound that a prediction implies with the true sound.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.audio.weighting import a_weighted
from archijax.codecs.losses import WINDOWS, log_mel_loss, multi_resolution_stft_loss
from archijax.errors import InputError

ErrorName = Literal["mse", "l1", "huber", "a_weighted", "stft", "mel"]

HUBER = 0.1  # the difference at which Huber's error changes from a square to a straight line


def squared(prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns (prediction - target)^2 for every value."""
    return jnp.square(prediction - target)


def absolute(prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns |prediction - target| for every value."""
    return jnp.abs(prediction - target)


def huber(prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns twice the Huber loss of every value (Huber 1964). Let d be |prediction - target|. The result is d^2 if d
    is at most 0.1, and 0.1 (2 d - 0.1) otherwise.
    """
    difference = jnp.abs(prediction - target)
    return jnp.where(difference <= HUBER, jnp.square(difference), HUBER * (2 * difference - HUBER))


def a_weighted_squared(
    prediction: Float[Array, "b time c"], target: Float[Array, "b time c"], sample_rate: int
) -> Float[Array, "b time c"]:
    """Returns the square of the A-weighted difference between prediction and target.

    A-weighting is a filter that weights frequencies by the ear's sensitivity.
    """
    return jnp.square(a_weighted(prediction - target, sample_rate))


def named_error(name: ErrorName, sample_rate: int, length: int) -> dict[str, Callable[..., Any]]:
    """Returns a dict with one argument of :class:`DiffusionModel`: {"error": f} or {"sound_error": f}. The function f
    computes the error called ``name``.

    Args:
        name: "mse", "l1", "huber" and "a_weighted" give an "error", which compares every value of the prediction.
            "a_weighted" is the square of the A-weighted difference. "stft" (multi-resolution STFT) and "mel" give a
            "sound_error", which compares the sound that the prediction implies.
        sample_rate: the sample rate of the sounds, in Hz.
        length: the number of samples of each sound.

    Raises:
        InputError: no error is called ``name``, or the sounds are too short for this error.
    """
    values = {"mse": squared, "l1": absolute, "huber": huber}
    if name in values:
        return {"error": values[name]}
    if name == "a_weighted":
        return {"error": partial(a_weighted_squared, sample_rate=sample_rate)}
    if name not in get_args(ErrorName):
        raise InputError(f"error is {name!r}: {', '.join(get_args(ErrorName))} are known")
    # For reflect padding, a sound must be longer than half of a window.
    windows = tuple(window for window in WINDOWS if window <= length)
    if not windows:
        raise InputError(f"the error {name} needs sounds of at least {min(WINDOWS)} samples, not {length}")
    loss = partial(multi_resolution_stft_loss, windows=windows)
    if name == "mel":
        loss = partial(log_mel_loss, sample_rate=sample_rate, windows=windows)
    return {"sound_error": jax.vmap(lambda sound, target: loss(sound[None], target[None]))}
