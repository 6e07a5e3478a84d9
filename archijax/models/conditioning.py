"""What a net is conditioned on, arrays by name, with and without the prompt."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from archijax.errors import InputError

# What runs along the sound: windows cut it with the sound, and guidance leaves it as it is.
ALONG = ("append_channels", "channels")


def drop(conditioning: dict[str, Any], dropped: jax.Array) -> dict[str, Any]:
    """The conditioning with the embedding and the features of some items, bool [b], left out."""
    changes = {}
    if "embedding" in conditioning:
        changes["embedding_mask"] = dropped
    if "features" in conditioning:
        changes["features"] = jnp.where(dropped[:, None], 0, conditioning["features"])
    return {**conditioning, **changes}


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
    known = [conditioning[name] for name in ("embedding", "features") if name in conditioning]
    if not known:
        raise InputError("guidance needs an embedding or features, and there is neither: use 1")
    none = jnp.zeros(len(known[0]), bool)
    away = {**drop(conditioning, ~none), **negative}
    if "embedding" in negative:
        away["embedding_mask"] = none
    return {**({"embedding_mask": none} if "embedding" in conditioning else {}), **conditioning}, away
