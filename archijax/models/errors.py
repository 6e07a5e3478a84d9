"""Errors of what a diffusion net predicts, by name: of every value of the prediction, or of the sound it implies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from archijax.audio.weighting import a_weighted
from archijax.codecs.losses import WINDOWS, log_mel_loss, multi_resolution_stft_loss
from archijax.errors import InputError

ErrorName = Literal["mse", "l1", "huber", "a_weighted", "stft", "mel"]

HUBER = 0.1  # where Huber's error turns from the square to the absolute value


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The squared difference of every value."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """The absolute difference of every value."""
    return jnp.abs(prediction - target)


def huber(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Huber's error of every value: d^2 up to HUBER, there on it rises as a line (Huber 1964, times 2)."""
    difference = jnp.abs(prediction - target)
    return jnp.where(difference <= HUBER, jnp.square(difference), HUBER * (2 * difference - HUBER))


def a_weighted_squared(prediction: jax.Array, target: jax.Array, sample_rate: int) -> jax.Array:
    """The squared difference of every value under A-weighting: as loud as the ear hears its frequencies."""
    return jnp.square(a_weighted(prediction - target, sample_rate))


def named_error(name: ErrorName, sample_rate: int, length: int) -> dict[str, Callable[..., Any]]:
    """The settings `error` or `sound_error` of a :class:`DiffusionModel` for an error by name.

    Args:
        name: "mse", "l1" and "huber" compare every value of the prediction, "a_weighted" does so by the ear's
            sensitivity; "stft" (multi-resolution STFT) and "mel" compare the sound that the prediction implies.
        sample_rate: of the sounds, in Hz.
        length: of the sounds, in samples.

    Raises:
        InputError: another name, or sounds too short for it.
    """
    values = {"mse": squared, "l1": absolute, "huber": huber}
    if name in values:
        return {"error": values[name]}
    if name == "a_weighted":
        return {"error": partial(a_weighted_squared, sample_rate=sample_rate)}
    if name not in get_args(ErrorName):
        raise InputError(f"error is {name!r}: {', '.join(get_args(ErrorName))} are known")
    # A window needs more than half of itself.
    windows = tuple(window for window in WINDOWS if window <= length)
    if not windows:
        raise InputError(f"the error {name} needs sounds of at least {min(WINDOWS)} samples, not {length}")
    loss = partial(multi_resolution_stft_loss, windows=windows)
    if name == "mel":
        loss = partial(log_mel_loss, sample_rate=sample_rate, windows=windows)
    return {"sound_error": jax.vmap(lambda sound, target: loss(sound[None], target[None]))}
