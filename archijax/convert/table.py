"""The table of a conversion between PyTorch's state_dicts and Flax parameters, which both directions read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

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
    if missing or extra:
        named = {"missing": missing, "not part of this net": extra}
        parts = [f"{what} {listed(names)}" for what, names in named.items() if names]
        raise InputError(f"the weights do not fit the net: {'; '.join(parts)}")
    params = {}
    for entry in table:
        name, *copies = (name for name in entry.names if name in state)
        theirs = np.asarray(state[name])
        for copy in copies:
            if not np.array_equal(theirs, state[copy], equal_nan=True):
                raise InputError(f"{copy} is not equal to {name}, of which it should be a copy: which one is meant?")
        if theirs.shape != entry.torch_shape or theirs.dtype.kind != "f":
            raise InputError(
                f"{name} is {theirs.dtype} of shape {list(theirs.shape)}, and the net needs floats of shape "
                f"{list(entry.torch_shape)}"
            )
        if not np.isfinite(theirs).all():
            raise InputError(f"{name} holds values that are not finite: the weights are of a training that diverged")
        if entry.constant is None:
            params[entry.path] = entry.to_flax(theirs)
        else:
            _check_constant(entry, name, theirs)
    return unflatten_dict(params)


def to_torch(table: Sequence[Entry], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flax parameters as a PyTorch state_dict, parameters that it lists more than once written again."""
    flat = flatten_dict(params)
    return {
        name: entry.to_torch(np.asarray(flat[entry.path])) if entry.constant is None else entry.constant
        for entry in table
        for name in entry.names
    }


def _check_constant(entry: Entry, name: str, theirs: np.ndarray) -> None:
    if not np.allclose(theirs, entry.constant, rtol=0, atol=1e-4):
        raise InputError(
            f"{name} is not the array that the net's settings give: build it with the settings of these weights"
        )
