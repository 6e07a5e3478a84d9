"""Contains functions that change the conditioning of a net, which is a dict of arrays. Training drops conditioning of
some items, and guidance needs negative conditioning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from archijax.errors import InputError
from archijax.keys import CONDITIONS, stream
from archijax.nn.conditioners import PREFIX

# Arrays that run along the sound. Windows cut them together with the sound, and guidance does not change them.
ALONG = ("append_channels", "channels")


def droppable(conditioning: Mapping[str, Any]) -> list[str]:
    """Returns the names of the arrays that can be dropped: "embedding", "features" and every "condition_NAME"."""
    return [name for name in conditioning if name in ("embedding", "features") or name.startswith(PREFIX)]


def drop(
    conditioning: dict[str, Any], dropped: Bool[Array, " b"], each: Mapping[str, Bool[Array, " b"]] | None = None
) -> dict[str, Any]:
    """Drops conditioning of some items of the batch, and returns the new conditioning.

    Where conditioning is dropped, "embedding_mask" [b] becomes True, "features" become 0, and each "condition_NAME"
    becomes -1.

    Args:
        conditioning: arrays by name, such as "embedding" [b, n, e], "features" [b, f] and "condition_NAME" [b].
        dropped: a mask that is True for items that lose all of their conditioning.
        each: maps the name of an array to a mask that is True for items that lose this array.
    """
    changes, each = {}, each or {}
    for name in droppable(conditioning):
        mask, value = dropped | each[name] if name in each else dropped, conditioning[name]
        if name == "embedding":
            changes["embedding_mask"] = mask
        elif name == "features":
            changes[name] = jnp.where(mask[:, None], 0, value)
        else:
            changes[name] = jnp.where(mask, jnp.full_like(value, -1), value)
    return {**conditioning, **changes}


def draw_masks(keys: Key[Array, " b"], probabilities: Mapping[str, float]) -> dict[str, Bool[Array, " b"]]:
    """Draws the argument ``each`` of :func:`drop`: a dict that maps names of arrays to random masks [b].

    ``probabilities`` maps the name of an array to the probability of True. A probability of 0 gives no mask.
    """
    keys = stream(keys, CONDITIONS)
    return {
        name: jax.vmap(lambda key, p=p: jax.random.bernoulli(key, p))(stream(keys, number))
        for number, (name, p) in enumerate(sorted(probabilities.items()))
        if p > 0
    }


def opposites(conditioning: dict[str, Any], negative: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (the conditioning to guide towards, the conditioning to guide away from).

    In the conditioning to guide away from, all arrays that :func:`droppable` lists are dropped (see :func:`drop`).
    Arrays in ``negative`` then replace the arrays with the same names. If there is an "embedding", both results have an
    "embedding_mask" [b].

    Raises:
        InputError: no array can be dropped, or an array in ``negative`` has another shape than in ``conditioning``.
    """
    negative = {name: array for name, array in negative.items() if name not in ALONG}
    for name, array in negative.items():
        shape = conditioning[name].shape if name in conditioning else "absent"
        if array.shape != shape:
            raise InputError(
                f"the negative {name} has shape {array.shape}, but the positive one has {shape}: make them equal"
            )
    names = droppable(conditioning)
    if not names:
        raise InputError("guidance needs an embedding, features or a condition, but there is none: use the scale 1")
    none = jnp.zeros(len(conditioning[names[0]]), bool)
    away = {**drop(conditioning, ~none), **negative}
    if "embedding" in negative:
        away["embedding_mask"] = none
    return {**({"embedding_mask": none} if "embedding" in conditioning else {}), **conditioning}, away
