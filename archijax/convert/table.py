"""The table of a conversion between PyTorch's state_dicts and Flax parameters, which both directions read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..errors import InputError

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
        parts = [f"{what} {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                 for what, names in (("missing", missing), ("not part of this net", extra)) if names]  # fmt: skip
        raise InputError(f"the weights do not fit the net: {'; '.join(parts)}")
    params = {}
    for entry in table:
        name, *copies = (name for name in entry.names if name in state)
        theirs = np.asarray(state[name])
        for copy in copies:
            if not np.array_equal(theirs, state[copy]):
                raise InputError(f"{copy} is not equal to {name}, of which it should be a copy: which one is meant?")
        if entry.constant is not None:
            _check_constant(entry, theirs)
            continue
        params[entry.path] = entry.to_flax(theirs)
        if params[entry.path].shape != entry.shape:
            raise InputError(
                f"{name} of shape {theirs.shape} becomes {params[entry.path].shape} here, "
                f"and the net's {'/'.join(entry.path)} has shape {entry.shape}"
            )
    return unflatten_dict(params)


def to_torch(table: Sequence[Entry], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flax parameters as a PyTorch state_dict, parameters that it lists more than once written again."""
    flat = flatten_dict(params)
    return {
        name: entry.to_torch(np.asarray(flat[entry.path])) if entry.constant is None else entry.constant
        for entry in table
        for name in entry.names
    }


def _check_constant(entry: Entry, theirs: np.ndarray) -> None:
    if theirs.shape != entry.constant.shape or not np.allclose(theirs, entry.constant, rtol=0, atol=1e-4):
        raise InputError(
            f"{entry.names[0]} of shape {theirs.shape} is not the array of shape {entry.constant.shape} that the "
            "net's settings give: build it with the settings of these weights"
        )
