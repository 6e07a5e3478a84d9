"""Exchanges messages between processes that train together. A single process sends no messages."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from archijax.errors import InputError

Result = TypeVar("Result")


def leads() -> bool:
    """Returns whether this is the first process, which does the work that only one process needs to do."""
    return jax.process_index() == 0


def from_all(value: Any) -> list:
    """Returns the values of all processes, in the order of the processes.

    All processes must call this function together, with values that can be pickled.
    """
    if jax.process_count() == 1:
        return [value]
    message = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([message.size], np.int32)).reshape(-1)
    padded = np.pad(message, (0, int(sizes.max()) - message.size))
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def together(work: Callable[[], Result]) -> Result:
    """Returns the result of `work` in this process, after `work` has succeeded in all processes.

    Raises:
        Exception: `work` failed in this process.
        InputError, OSError: `work` failed with this error in another process.
        RuntimeError: `work` failed with another error in another process.
    """
    if jax.process_count() == 1:
        return work()
    result, error, message = None, None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
        # Some errors of other libraries cannot be pickled.
        known = isinstance(error, (InputError, OSError))
        message = error if known else RuntimeError(f"{type(error).__name__}: {error}")
    errors = from_all(message)
    if error is not None:
        raise error
    if elsewhere := [each for each in errors if each is not None]:
        raise elsewhere[0]
    return result


def from_first(make: Callable[[], Result]) -> Result:
    """Calls `make` in the first process alone, and returns its result in all processes.

    An InputError or OSError of `make` is raised in all processes. All processes must call this function together. The
    result is pickled, so it should not contain large arrays.
    """
    if jax.process_count() == 1:
        return make()
    result, error = None, None
    if leads():
        try:
            result = make()
        except (InputError, OSError) as raised:
            error = raised
    message = pickle.dumps((result, error)) if leads() else b""
    size = int(_broadcast(np.array([len(message)], np.int32))[0])
    buffer = np.frombuffer(message, np.uint8) if leads() else np.zeros(size, np.uint8)
    result, error = pickle.loads(_broadcast(buffer).tobytes())
    if error is not None:
        raise error
    return result


def array_from_first(leaf: Any) -> np.ndarray:
    """Returns the array of the first process in all processes. Each process passes a host array of the same shape and
    type."""
    if jax.process_count() == 1:
        return leaf
    shape, dtype = np.shape(leaf), np.dtype(leaf.dtype)
    # The broadcast is a sum, which would change -0.0 and NaN. Bytes keep them.
    size = int(np.prod(shape)) * dtype.itemsize
    data = np.frombuffer(np.asarray(leaf).tobytes(), np.uint8) if leads() else np.zeros(size, np.uint8)
    return np.frombuffer(_broadcast(data).tobytes(), dtype).reshape(shape)


def _broadcast(array: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.broadcast_one_to_all(array))
