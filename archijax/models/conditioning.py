"""What a net is conditioned on, arrays by name, with and without the prompt and other conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.keys import CONDITIONS, stream
from archijax.nn.conditioners import PREFIX

# What runs along the sound: windows cut it with the sound, and guidance leaves it as it is.
ALONG = ("append_channels", "channels")


def droppable(conditioning: Mapping[str, Any]) -> list[str]:
    """The names of what can be left out: the embedding, the features and every condition."""
    return [name for name in conditioning if name in ("embedding", "features") or name.startswith(PREFIX)]


def drop(
    conditioning: dict[str, Any], dropped: jax.Array, each: Mapping[str, jax.Array] | None = None
) -> dict[str, Any]:
    """The conditioning of some items, bool [b], left out, and by name that of others alone."""
    changes, each = {}, each or {}
    for name in droppable(conditioning):
        gone, value = dropped | each[name] if name in each else dropped, conditioning[name]
        if name == "embedding":
            changes["embedding_mask"] = gone
        elif name == "features":
            changes[name] = jnp.where(gone[:, None], 0, value)
        else:
            changes[name] = jnp.where(gone, jnp.full_like(value, -1), value)
    return {**conditioning, **changes}


def draw_masks(keys: jax.Array, probabilities: Mapping[str, float]) -> dict[str, jax.Array]:
    """Which items with keys [b] lose one of the conditioning alone, bool [b] by its name."""
    keys = stream(keys, CONDITIONS)
    return {
        name: jax.vmap(lambda key, p=p: jax.random.bernoulli(key, p))(stream(keys, number))
        for number, (name, p) in enumerate(sorted(probabilities.items()))
        if p > 0
    }


def opposites(conditioning: dict[str, Any], negative: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What guidance leads to, and what it leads away from: the negative conditioning, or none.

    Raises InputError: there is nothing to drop, or the negative arrays have other shapes.
    """
    negative = {name: array for name, array in negative.items() if name not in ALONG}
    for name, array in negative.items():
        shape = conditioning[name].shape if name in conditioning else "absent"
        if array.shape != shape:
            raise InputError(
                f"the negative {name} has shape {array.shape}, the positive one is {shape}: make them equal"
            )
    known = droppable(conditioning)
    if not known:
        raise InputError("guidance needs an embedding, features or a condition, and there is none: use 1")
    none = jnp.zeros(len(conditioning[known[0]]), bool)
    away = {**drop(conditioning, ~none), **negative}
    if "embedding" in negative:
        away["embedding_mask"] = none
    return {**({"embedding_mask": none} if "embedding" in conditioning else {}), **conditioning}, away
