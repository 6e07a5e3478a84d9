"""What every builder of golden cases shares: the form of a built case, and the order of axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Inputs and outputs that hold [batch, channels, *positions] in PyTorch and [batch, *positions, channels] here.
SIGNALS = ("x", "append_channels", "channels", "y", "noise", "source", "mask", "waveform")


@dataclasses.dataclass(frozen=True)
class Built:
    """A case ready to be called: ``calls[method](inputs, kwargs, draws) -> list of outputs`` in PyTorch's layout.

    A call can be compiled for its arrays, which are ``inputs`` and ``draws``.

    ``folded`` counts what the original keeps apart and ours multiplied in, such as the lengths of weight norm.
    ``phases`` maps names of outputs to a function of the difference from the original that wraps angles.
    """

    params: Any
    to_torch: Callable[[Any], dict[str, np.ndarray]]
    calls: dict[str, Callable]
    phases: dict[str, Callable] = dataclasses.field(default_factory=dict)
    folded: int = 0


def first(array: jax.Array) -> jax.Array:
    """Channels first to channels last."""
    return jnp.moveaxis(array, 1, -1)


def last(array: jax.Array) -> jax.Array:
    """Channels last to channels first."""
    return jnp.moveaxis(array, -1, 1)


def swapped(array: jax.Array) -> jax.Array:
    """[batch, channels, frequencies, frames] in PyTorch to [batch, frames, frequencies, channels] here, and back."""
    return array.transpose(0, 3, 2, 1)
