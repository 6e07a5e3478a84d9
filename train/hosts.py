"""Processes that train together, on one machine or on many."""

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from archijax.cli import say
from archijax.errors import InputError

Result = TypeVar("Result")

LOST = 75  # EX_TEMPFAIL of sysexits.h: try again
HEARTBEAT_SECONDS = 30
# All end together, but for one with wrong input of its own: the others shall not wait for it.
SHUTDOWN_SECONDS = 10


def join(coordinator: str | None = None, count: int | None = None, number: int | None = None) -> None:
    """Joins the processes that train together, before anything else is asked of JAX.

    Without arguments Slurm, Kubernetes, Open MPI or the Cloud TPU say which these are.

    Args:
        coordinator: HOST:PORT of the process 0, the same in every process.
        count: how many processes there are.
        number: which of them this one is, from 0.

    Raises:
        InputError: some of the arguments but not all, or the environment does not say it; process 0 cannot be reached.
    """
    settings = (coordinator, count, number)
    if None in settings and settings != (None, None, None):
        raise InputError("--coordinator, --processes and --process belong together: give all three, or --distributed.")
    if None not in settings and not 0 <= number < count:
        raise InputError(f"process is {number}, but must be at least 0 and below processes, which is {count}.")
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            number,
            cluster_detection_method=None if coordinator is None else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"The environment does not say which processes train together ({error}): give --coordinator HOST:PORT, "
            "--processes N and --process I."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"The processes did not find each other: {str(error).splitlines()[0]}") from error


def leads() -> bool:
    """Whether this process writes what is written once: it is the only one, or number 0."""
    return jax.process_index() == 0


def from_first(make: Callable[[], Result]) -> Result:
    """What `make` returns in process 0, which alone calls it, or the InputError or OSError that it raises there.

    All processes must call this together. What is returned is pickled: settings and lists, not arrays.
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


def arrays_from_first(tree: Any) -> Any:
    """The tree of host arrays of process 0; the others give one of the same shapes and types."""
    if jax.process_count() == 1:
        return tree

    def one(leaf: Any) -> np.ndarray:
        shape, dtype = np.shape(leaf), np.dtype(leaf.dtype)
        # As bytes: what adding zeros would do to -0.0 and NaN does not matter then.
        size = int(np.prod(shape)) * dtype.itemsize
        data = np.frombuffer(np.asarray(leaf).tobytes(), np.uint8) if leads() else np.zeros(size, np.uint8)
        return np.frombuffer(_broadcast(data).tobytes(), dtype).reshape(shape)

    return jax.tree.map(one, tree)


def give_up(error: Exception) -> NoReturn:
    """Ends one of several processes after an error, at once, so that the others do not wait for it.

    An error of the connection means that another process is gone: that is said, and the exit status is `LOST`.
    """
    text = str(error)
    signs = ("Gloo", "NCCL", "coordination", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection", "Socket", "ABORTED")
    lost = any(sign in text for sign in signs)
    if lost:
        reason = text.strip().splitlines()[0][:200]
        say(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one ({reason}): it stops. Start "
            "all of them again with the same command: the run continues from its last checkpoint."
        )
    else:
        traceback.print_exception(error)
    # The usual way out would wait for the others.
    os._exit(LOST if lost else 1)


def _broadcast(array: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.broadcast_one_to_all(array))
