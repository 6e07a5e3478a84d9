"""The table of a conversion between PyTorch's state_dicts and Flax parameters, which both directions read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.errors import InputError, listed

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter: its path in Flax, its names in PyTorch (several where it is listed again), and its layout.

    Layouts: "same"; "kernel", [out, in, *sizes] in PyTorch and [*sizes, in, out] here; "transposed", [in, out, *sizes]
    in PyTorch and [*sizes, in, out] here; "channel", [1, c, 1 ...] in PyTorch and [c] here. An entry with a
    ``constant`` is no parameter but an array, such as a window, that PyTorch lists and the settings determine.
    """

    path: Path
    names: tuple[str, ...]
    layout: str = "same"
    dims: int = 1
    shape: tuple[int, ...] = ()
    constant: np.ndarray | None = None

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape that the array has in PyTorch."""
        if self.constant is not None:
            return self.constant.shape
        if self.layout == "kernel":
            return (self.shape[-1], self.shape[-2], *self.shape[:-2])
        if self.layout == "transposed":
            return (self.shape[-2], self.shape[-1], *self.shape[:-2])
        return (1, *self.shape, *(1,) * self.dims) if self.layout == "channel" else self.shape

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        if self.layout == "kernel":
            array = array.transpose(*range(2, array.ndim), 1, 0)
        elif self.layout == "transposed":
            array = array.transpose(*range(2, array.ndim), 0, 1)
        elif self.layout == "channel":
            array = array.reshape(-1)
        return np.ascontiguousarray(array)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        if self.layout == "kernel":
            array = array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
        elif self.layout == "transposed":
            array = array.transpose(array.ndim - 2, array.ndim - 1, *range(array.ndim - 2))
        elif self.layout == "channel":
            array = array.reshape(1, -1, *(1,) * self.dims)
        return np.ascontiguousarray(array)


def from_torch(table: Sequence[Entry], state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A PyTorch state_dict as Flax parameters.

    Args:
        table: from :func:`entries`.
        state: the state_dict, numpy arrays by name; of a parameter that is listed several times once is enough.

    Raises:
        InputError: tensors are missing, left over, of another shape, of other settings, or not equal where one is
            listed again, named.
    """
    wanted = {name for entry in table for name in entry.names}
    missing = sorted(entry.names[0] for entry in table if not state.keys() & set(entry.names))
    extra = sorted(state.keys() - wanted)
    named = {"missing": missing, "not part of this net": extra}
    wrong = [f"{what} {listed(names)}" for what, names in named.items() if names]
    params = {}
    for entry in table:
        names = [name for name in entry.names if name in state]
        problems = [problem for name in names if (problem := _problem(entry, name, names[0], state))]
        wrong += problems
        if names and not problems and entry.constant is None:
            params[entry.path] = entry.to_flax(np.asarray(state[names[0]]))
    if wrong:
        raise InputError(f"the weights do not fit the net: {listed(wrong, 12, '; ')}")
    return unflatten_dict(params)


def _problem(entry: Entry, name: str, first: str, state: Mapping[str, np.ndarray]) -> str | None:
    """What is wrong with the tensor of a name, or None; it must equal the tensor of the entry's first name."""
    tensor = np.asarray(state[name])
    if tensor.shape != entry.torch_shape or not jnp.issubdtype(tensor.dtype, jnp.floating):
        return (
            f"{name} is {tensor.dtype} of shape {list(tensor.shape)}, and the net needs floats of shape "
            f"{list(entry.torch_shape)}"
        )
    if not np.array_equal(tensor, state[first], equal_nan=True):
        return f"{name} is not equal to {first}, of which it should be a copy"
    if not np.isfinite(tensor).all():
        return f"{name} holds values that are not finite: the weights are of a training that diverged"
    if entry.constant is not None and not np.allclose(tensor, entry.constant, rtol=0, atol=1e-4):
        return f"{name} is not the array that the net's settings give: build it with the settings of these weights"
    return None


def to_torch(table: Sequence[Entry], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flax parameters as a PyTorch state_dict, parameters that it lists more than once written again."""
    flat = flatten_dict(params)
    return {
        name: entry.to_torch(np.asarray(flat[entry.path])) if entry.constant is None else entry.constant
        for entry in table
        for name in entry.names
    }
