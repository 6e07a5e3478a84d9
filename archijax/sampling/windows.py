"""Long sounds from a net of short ones: overlapped windows, merged at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError
from archijax.sampling.steps import Denoise


def windowed(
    denoise: Callable[..., jax.Array], window: int, hop: int, *, circular: bool = False, along: Any = None
) -> Denoise:
    """``denoise`` for sounds longer than the net was trained on, by windows one after the other (Bar-Tal et al. 2023).

    Every step predicts each window by itself, and blends where they overlap by weights that vanish at a window's ends,
    so no seam is ever decided by one window alone. Memory is that of one window.

    Args:
        denoise: for [b, window, c]; called as (x, t), or (x, t, parts) if something runs `along`.
        window: samples that the net sees at once.
        hop: samples from one window to the next, at most `window`; half of it is usual.
        circular: the end goes on at the beginning: the sound loops without a seam.
        along: arrays [b, n, ...] in any pytree that run along the sound, with time / n samples for each of n; every
            window gets its part of them.

    Returns:
        a denoise for [b, time, c], time at least `window`.
    """
    if not 1 <= hop <= window:
        raise InputError(f"the hop between windows is {hop}: it must be at least 1 and at most the window, {window}")
    # Above zero at both ends, for what only one window covers.
    ramp = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)) / (window / 2)
    weight = np.minimum(ramp * window / (2 * max(window - hop, 1)), 1)[:, None]

    def long(x: jax.Array, t: jax.Array) -> jax.Array:
        length = x.shape[1]
        if length < window:
            raise InputError(f"the sound has {length} samples: at least one window of {window} is needed")
        if circular:
            starts = np.arange(0, length, hop)
        else:
            starts = np.minimum(np.arange(0, length - window + hop, hop), length - window)
        for array in jax.tree.leaves(along):
            if length % array.shape[1] or (np.append(starts, window) * array.shape[1] % length).any():
                raise InputError(
                    f"{array.shape[1]} frames run along {length} samples in windows of {window} and hops of {hop}: "
                    "windows and hops must be whole frames"
                )
        places = (starts[:, None] + np.arange(window)) % length
        total = np.zeros((length, 1))
        np.add.at(total, places.reshape(-1), np.tile(weight, (len(starts), 1)))
        share = jnp.asarray(weight, x.dtype)

        def part_of(array: jax.Array, start: jax.Array) -> jax.Array:
            n, samples = array.shape[1], length // array.shape[1]
            return jnp.take(array, (start // samples + jnp.arange(window // samples)) % n, axis=1)

        def one(merged: jax.Array, where: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            start, place = where
            parts = () if along is None else (jax.tree.map(lambda array: part_of(array, start), along),)
            part = denoise(jnp.take(x, place, axis=1), t, *parts).astype(x.dtype)
            return merged.at[:, place].add(share * part), None

        merged, _ = jax.lax.scan(one, jnp.zeros_like(x), (jnp.asarray(starts), jnp.asarray(places)))
        return merged / jnp.asarray(total, x.dtype)

    return long
