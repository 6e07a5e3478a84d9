"""The common parts of the builders of golden cases: the class of a built case, and the order of axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Inputs and outputs with the shape [batch, channels, *positions] in PyTorch and [batch, *positions, channels] here.
SIGNALS = ("x", "append_channels", "channels", "y", "noise", "source", "mask", "waveform")


@dataclasses.dataclass(frozen=True)
class Built:
    """A case with its functions: ``calls[method](inputs, kwargs, draws) -> list of outputs`` in PyTorch's layout.

    A call can be compiled with ``inputs`` and ``draws`` as its arrays.

    ``folded`` counts parameters of the original that ours contain as factors, such as the lengths of weight norm.
    ``phases`` maps names of outputs to a function that wraps the difference of angles.
    """

    params: Any
    to_torch: Callable[[Any], dict[str, np.ndarray]]
    calls: dict[str, Callable]
    phases: dict[str, Callable] = dataclasses.field(default_factory=dict)
    folded: int = 0


def first(array: jax.Array) -> jax.Array:
    """Moves channels from the second axis to the last one."""
    return jnp.moveaxis(array, 1, -1)


def last(array: jax.Array) -> jax.Array:
    """Moves channels from the last axis to the second one."""
    return jnp.moveaxis(array, -1, 1)


def swapped(array: jax.Array) -> jax.Array:
    """[batch, channels, frequencies, frames] in PyTorch to [batch, frames, frequencies, channels] here, and back."""
    return array.transpose(0, 3, 2, 1)
