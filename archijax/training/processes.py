"""What several processes that train together tell each other. One process alone tells nobody."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from archijax.errors import InputError

Result = TypeVar("Result")


def leads() -> bool:
    """Whether this process does what is done once: it is the only one, or number 0."""
    return jax.process_index() == 0


def from_all(value: Any) -> list:
    """The values of all processes, in their order. All call this together; what they give is pickled, no arrays."""
    if jax.process_count() == 1:
        return [value]
    message = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([message.size], np.int32)).reshape(-1)
    padded = np.pad(message, (0, int(sizes.max()) - message.size))
    rows = multihost_utils.process_allgather(padded)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def together(work: Callable[[], Result]) -> Result:
    """What `work` returns in this process, once it has succeeded in all of them.

    Raises:
        what it raises here; else, where it fails in another process, its InputError or OSError, or a RuntimeError.
    """
    if jax.process_count() == 1:
        return work()
    result, error, told = None, None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
        # Other libraries' errors cannot all be pickled.
        told = error if isinstance(error, (InputError, OSError)) else RuntimeError(f"{type(error).__name__}: {error}")
    errors = from_all(told)
    if error is not None:
        raise error
    if elsewhere := [each for each in errors if each is not None]:
        raise elsewhere[0]
    return result


def from_first(make: Callable[[], Result]) -> Result:
    """What `make` returns in process 0, which alone calls it, or the InputError or OSError that it raises there.

    All processes call this together. What is returned is pickled: settings and lists, not arrays.
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
    """A host array of process 0; the others give a shape and type."""
    if jax.process_count() == 1:
        return leaf
    shape, dtype = np.shape(leaf), np.dtype(leaf.dtype)
    # As bytes: what adding zeros would do to -0.0 and NaN does not matter then.
    size = int(np.prod(shape)) * dtype.itemsize
    data = np.frombuffer(np.asarray(leaf).tobytes(), np.uint8) if leads() else np.zeros(size, np.uint8)
    return np.frombuffer(_broadcast(data).tobytes(), dtype).reshape(shape)


def _broadcast(array: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.broadcast_one_to_all(array))
