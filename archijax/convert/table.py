"""Converts PyTorch's state_dicts to Flax parameters, and back, by the same table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.errors import InputError, listed

Path = tuple[str, ...]
WORKERS = 2  # threads that convert parameters; each thread needs memory for some copies of a parameter


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of a conversion table: the path of a parameter in Flax, and its name and layout in PyTorch.

    Fields:
        path: the path of the parameter in Flax.
        names: the names of the parameter in PyTorch. PyTorch can list one parameter under several names.
        layout: how the shape in PyTorch differs from the shape in Flax. "same": the shapes are equal. "kernel": [out,
            in, *sizes] in PyTorch and [*sizes, in, out] in Flax. "transposed": [in, out, *sizes] in PyTorch and
            [*sizes, in, out] in Flax. "channel": [1, c, 1 ...] in PyTorch and [c] in Flax. "column": [c, 1] in PyTorch
            and [c] in Flax. "pointwise": [out, in, 1] in PyTorch and [in, out] in Flax.
        dims: the number of axes of length 1 after c in PyTorch, for the layout "channel".
        shape: the shape of the parameter in Flax.
        constant: an array that only PyTorch stores, such as a window. Flax computes the array from the settings.
        rows: (the first row of this parameter, the number of rows of the array), if PyTorch stores several parameters
            as rows of one array.
        weight_norm: whether PyTorch stores the parameter as a direction NAME_v and norms NAME_g [rows, 1 ...] (Salimans
            & Kingma 2016).
    """

    path: Path
    names: tuple[str, ...]
    layout: str = "same"
    dims: int = 1
    shape: tuple[int, ...] = ()
    constant: np.ndarray | None = None
    rows: tuple[int, int] | None = None
    weight_norm: bool = False

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Returns the shape of the parameter in PyTorch. If several parameters share an array, only the rows of this
        parameter count."""
        if self.constant is not None:
            return self.constant.shape
        if self.layout == "kernel":
            return (self.shape[-1], self.shape[-2], *self.shape[:-2])
        if self.layout == "transposed":
            return (self.shape[-2], self.shape[-1], *self.shape[:-2])
        if self.layout == "column":
            return (*self.shape, 1)
        if self.layout == "pointwise":
            return (self.shape[1], self.shape[0], 1)
        return (1, *self.shape, *(1,) * self.dims) if self.layout == "channel" else self.shape

    def tensors(self, name: str) -> dict[str, tuple[int, ...]]:
        """Returns {name: shape} for the tensors that PyTorch stores under ``name``, one of the names of the entry."""
        shape = self.torch_shape
        if self.rows is not None:
            return {name: (self.rows[1], *shape[1:])}
        if self.weight_norm:
            return {f"{name}_g": (shape[0], *(1,) * (len(shape) - 1)), f"{name}_v": shape}
        return {name: shape}

    def to_flax(self, *tensors: np.ndarray) -> np.ndarray:
        """Returns the Flax parameter as a new array. ``tensors`` are the PyTorch tensors in the order of
        :meth:`tensors`."""
        array, ratio = tensors[-1], _ratio(*tensors) if self.weight_norm else None
        if self.rows is not None:
            array = array[self.rows[0] :][: self.torch_shape[0]]
        if self.layout == "kernel":
            return _moved(array, (*range(2, array.ndim), 1, 0), ratio)
        if self.layout == "transposed":
            return _moved(array, (*range(2, array.ndim), 0, 1), ratio)
        if self.layout == "pointwise":
            return _moved(array[..., 0], (1, 0))
        return np.array(array.reshape(-1) if self.layout in ("channel", "column") else array)

    def to_torch(self, array: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the PyTorch tensors of a Flax parameter in the order of :meth:`tensors`, with only its own rows."""
        if self.layout == "kernel":
            array = array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
        elif self.layout == "transposed":
            array = array.transpose(array.ndim - 2, array.ndim - 1, *range(array.ndim - 2))
        elif self.layout == "channel":
            array = array.reshape(1, -1, *(1,) * self.dims)
        elif self.layout == "column":
            array = array.reshape(-1, 1)
        elif self.layout == "pointwise":
            array = array.T[..., None]
        array = np.ascontiguousarray(array)
        return (_lengths(array).astype(array.dtype), array) if self.weight_norm else (array,)


def _moved(array: np.ndarray, axes: tuple[int, ...], ratio: np.ndarray | None = None) -> np.ndarray:
    """Returns a copy of an array with its axes in the order ``axes``, as `np.transpose` does. Row i of the array is
    multiplied by ``ratio[i]``.

    A few rows at a time are copied to a buffer in the processor's cache, and moved from the buffer. The rows of the
    buffer have gaps: rows at distances of a power of two would evict each other from the cache. In float32, this
    function is four times as fast as `np.transpose`.
    """
    out = np.empty([array.shape[axis] for axis in axes], array.dtype)
    rows, size = out.transpose(np.argsort(axes)), array[:1].size
    step = min(len(array), max(64, 2**16 // (size + 16)))
    buffer = np.empty((step, size + 16), array.dtype)[:, :size].reshape(step, *array.shape[1:])
    for first in range(0, len(array), max(1, step)):
        block = array[first : first + step]
        near = buffer[: len(block)]
        if ratio is None:
            near[...] = block
        else:
            np.multiply(block, ratio[first : first + step], out=near, casting="same_kind")
        rows[first : first + step] = near
    return out


def _lengths(v: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norms [rows, 1 ...] of the rows of v, in float32 or a more precise type."""
    rows = v.reshape(len(v), -1)
    rows = rows.astype(np.promote_types(v.dtype, np.float32) if v.dtype.kind == "f" else np.float32, copy=False)
    return np.sqrt(np.einsum("ij,ij->i", rows, rows)).reshape(-1, *(1,) * (v.ndim - 1))


def _ratio(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the factors [rows, 1 ...] that scale the rows of v to the norms g."""
    # A row of zeros has no direction, and stays zero.
    lengths = _lengths(v)
    lengths = np.where(lengths > 0, lengths, 1)
    # The lengths are rounded to the type of g, so that a result of `to_torch` is converted back exactly.
    return g.astype(lengths.dtype) / lengths.astype(g.dtype).astype(lengths.dtype)


def from_torch(
    table: Sequence[Entry],
    state: Mapping[str, np.ndarray],
    place: Callable[[Path, np.ndarray], Any] = lambda path, array: array,
) -> dict[str, Any]:
    """Converts a PyTorch state_dict to Flax parameters.

    Args:
        table: the conversion table of the model, such as the result of :func:`archijax.convert.entries`.
        state: the state_dict, with numpy arrays by name. If a parameter has several names, one of them is enough. The
            parameters are read one by one. Little memory is thus needed for a mapping that reads arrays from a file.
        place: a function (path, array) that is called for each parameter. ``from_torch`` returns its results, such as
            arrays on a device.

    Raises:
        InputError: a tensor is missing, unknown or does not fit the table, or tensors under several names of one
            parameter differ. The message lists the wrong tensors.
    """
    known = {name for entry in table for whole in entry.names for name in entry.tensors(whole)}
    # For each entry, the first of its names that the state has. Tensors with the other names must be copies.
    firsts = [next((n for n in entry.names if entry.tensors(n).keys() <= state.keys()), None) for entry in table]
    absent = [entry for entry, name in zip(table, firsts, strict=True) if name is None]
    missing = sorted({min(entry.tensors(entry.names[0]).keys() - state.keys()) for entry in absent})
    named = {"missing": missing, "not part of this net": sorted(state.keys() - known)}
    wrong = [f"{kind} {listed(names)}" for kind, names in named.items() if names]

    def convert(entry: Entry, first: str | None) -> tuple[Any, list[str]]:
        if first is None:
            return None, []
        tensors = {name: np.asarray(state[name]) for name in entry.tensors(first)}
        problems = [p for name, shape in entry.tensors(first).items() if (p := _problem(entry, name, shape, tensors))]
        problems += _unequal(entry, first, state, tensors)
        if problems or wrong or entry.constant is not None:
            return None, problems
        return place(entry.path, entry.to_flax(*tensors.values())), []

    # numpy releases Python's lock while it copies, so that threads help.
    with ThreadPoolExecutor(WORKERS) as pool:
        leaves, problems = zip(*pool.map(convert, table, firsts), strict=True)
    wrong += [problem for each in problems for problem in each]
    params = {entry.path: leaf for entry, leaf in zip(table, leaves, strict=True) if leaf is not None}
    if wrong:
        raise InputError(f"the weights do not fit the net: {listed(list(dict.fromkeys(wrong)), 12, '; ')}")
    return unflatten_dict(params)


def _problem(entry: Entry, name: str, shape: tuple[int, ...], tensors: Mapping[str, np.ndarray]) -> str | None:
    """Returns a sentence about what is wrong with a tensor of an entry, or None if nothing is wrong."""
    tensor = tensors[name]
    if tensor.shape != shape or not jnp.issubdtype(tensor.dtype, jnp.floating):
        return (
            f"{name} is {tensor.dtype} of shape {list(tensor.shape)}, but the net needs floats of shape {list(shape)}"
        )
    if not _finite(tensor):
        return f"{name} has values that are not finite: the training of these weights diverged"
    if entry.constant is not None and not np.allclose(tensor, entry.constant, rtol=0, atol=1e-4):
        return f"{name} is not the array that follows from the net's settings: use the settings of these weights"
    return None


def _finite(tensor: np.ndarray) -> bool:
    # If a value is not finite, the sum is not finite. The sum takes a fraction of the time and no memory.
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(tensor, dtype=np.promote_types(np.float32, tensor.dtype) if tensor.dtype.kind == "f" else None)
    return bool(np.isfinite(total)) or bool(np.isfinite(tensor).all())


def _unequal(entry: Entry, first: str, state: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a sentence for each tensor that differs from the tensor under the first name of the entry."""
    wrong = []
    for whole in entry.names:
        if whole == first:
            continue
        for name, (of, tensor) in zip(entry.tensors(whole), tensors.items(), strict=True):
            if name in state and not np.array_equal(np.asarray(state[name]), tensor, equal_nan=True):
                wrong.append(f"{name} differs from {of}, but it should be a copy")
    return wrong


def to_torch(table: Sequence[Entry], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts Flax parameters to a PyTorch state_dict. A parameter with several names is listed under each name."""
    flat, state, rows = flatten_dict(params), {}, {}
    for entry in table:
        tensors = (entry.constant,) if entry.constant is not None else entry.to_torch(np.asarray(flat[entry.path]))
        for whole in entry.names:
            state |= dict(zip(entry.tensors(whole), tensors, strict=True))
            if entry.rows is not None:
                rows.setdefault(whole, []).append((entry.rows[0], tensors[0]))
    for name, parts in rows.items():
        state[name] = np.concatenate([array for _, array in sorted(parts, key=lambda part: part[0])])
    return state
