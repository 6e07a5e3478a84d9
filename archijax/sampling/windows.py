"""Samples long sounds with a net that was trained on short sounds. In every step, the net predicts overlapping windows,
and the predictions are averaged.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from archijax.errors import InputError
from archijax.sampling.steps import Denoise


def windowed(
    denoise: Callable[..., Float[Array, "b window c"]],
    window: int,
    hop: int,
    *,
    circular: bool = False,
    along: PyTree[Float[Array, "b ..."]] | None = None,
) -> Denoise:
    """Returns a function like ``denoise`` for sounds that are longer than the training sounds of the net (Bar-Tal et
    al. 2023).

    ``sample(windowed(denoise, 2**15, 2**14), process, x, timesteps)`` turns a long x into sound.

    Every step calls the net for one window after the other. Where windows overlap, their predictions are averaged. The
    weights of the average fall towards the ends of a window, so the ends cause no audible jumps. The net needs only the
    memory for one window.

    Args:
        denoise: a function ``denoise(x, t)`` for x [b, window, c] and t [b]. If `along` is given, the function is
            called as ``denoise(x, t, along)``, with the frames of `along` in the window.
        window: the number of samples that the net sees at once.
        hop: the number of samples from one window to the next, at least 1 and at most `window`. Half of `window` is
            usual.
        circular: whether windows continue from the end of a sound to its beginning. The sound can then be played in a
            loop.
        along: a pytree of conditioning arrays [b, frames, ...] that run along the sound. Each frame covers ``time /
            frames`` samples of the sound. Each window receives its own frames.

    Returns:
        A function ``denoise(x, t)`` for x [b, time, c] and t [b], with a result in the shape of x. The returned
        function raises InputError if time is below `window`, or if `window` or a hop does not cover a whole number of
        frames of `along`.

    Raises:
        InputError: hop is out of range.
    """
    if not 1 <= hop <= window:
        raise InputError(f"the hop between windows is {hop}: it must be at least 1 and at most the window, {window}")
    # The weights are above zero at both ends, because only one window covers the ends of the sound.
    ramp = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)) / (window / 2)
    weight = np.minimum(ramp * window / (2 * max(window - hop, 1)), 1)[:, None]

    def long(x: Float[Array, "b time c"], t: Float[Array, " b"]) -> Float[Array, "b time c"]:
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
        indices = (starts[:, None] + np.arange(window)) % length
        total_weight = np.zeros((length, 1))
        np.add.at(total_weight, indices.reshape(-1), np.tile(weight, (len(starts), 1)))
        window_weight = jnp.asarray(weight, x.dtype)

        def frames_of(array: Float[Array, "b frames *shape"], start: Int[Array, ""]) -> Float[Array, "b n *shape"]:
            frames, samples = array.shape[1], length // array.shape[1]
            return jnp.take(array, (start // samples + jnp.arange(window // samples)) % frames, axis=1)

        def add_window(
            total: Float[Array, "b time c"], inputs: tuple[Int[Array, ""], Int[Array, " window"]]
        ) -> tuple[Float[Array, "b time c"], None]:
            start, samples = inputs
            frames = () if along is None else (jax.tree.map(lambda array: frames_of(array, start), along),)
            prediction = denoise(jnp.take(x, samples, axis=1), t, *frames).astype(x.dtype)
            return total.at[:, samples].add(window_weight * prediction), None

        total, _ = jax.lax.scan(add_window, jnp.zeros_like(x), (jnp.asarray(starts), jnp.asarray(indices)))
        return total / jnp.asarray(total_weight, x.dtype)

    return long
