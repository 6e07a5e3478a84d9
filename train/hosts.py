"""Connects the processes that train together, on one machine or on many."""

import os
import traceback
from typing import NoReturn

import jax

from archijax.cli import say
from archijax.errors import InputError

LOST = 75  # EX_TEMPFAIL of sysexits.h, which means: try again
# Gloo fails with UNKNOWN, NCCL with INTERNAL, and the coordinator of the processes with the other codes.
_LOST_CODES = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED"})
HEARTBEAT_SECONDS = 30
# All processes end together. If one process ends early, because its input is wrong, the others must not wait for it.
SHUTDOWN_SECONDS = 10


def join(coordinator: str | None = None, count: int | None = None, number: int | None = None) -> None:
    """Joins the processes that train together. This function must be called before any other use of JAX.

    Without arguments, the number and the addresses of the processes come from the program that started them: Slurm,
    Kubernetes, Open MPI or a Cloud TPU.

    Args:
        coordinator: HOST:PORT of process 0, the same in all processes.
        count: the number of processes.
        number: the number of this process, counted from 0.

    Raises:
        InputError: only some of the arguments are given, or process 0 cannot be reached. With no arguments: the process
            was not started by one of these programs.
    """
    settings = (coordinator, count, number)
    if None in settings and settings != (None, None, None):
        raise InputError("--coordinator, --processes and --process belong together: use all three, or --distributed.")
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
            f"The environment does not state which processes train together ({error}): use --coordinator HOST:PORT, "
            "--processes N and --process I."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"The processes did not find each other: {str(error).splitlines()[0]}") from error


def is_lost(error: Exception) -> bool:
    """Returns whether an error of JAX's runtime means that another process is lost.

    Errors of JAX's runtime are of the type JaxRuntimeError or ValueError. Their messages begin with the code of an
    absl::Status.
    """
    code, colon, _ = str(error).partition(":")
    return isinstance(error, TimeoutError) or (
        isinstance(error, jax.errors.JaxRuntimeError | ValueError) and bool(colon) and code in _LOST_CODES
    )


def give_up(error: Exception) -> NoReturn:
    """Ends this process at once after an error. The other processes then do not wait for this process.

    If another process is lost, a message is printed, and the exit status is `LOST`.
    """
    lost = is_lost(error)
    if lost:
        reason = str(error).strip().splitlines()[0][:200]
        say(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one ({reason}): it stops. Start "
            "all of them again with the same command: the run continues from its last checkpoint."
        )
    else:
        traceback.print_exception(error)
    # sys.exit would wait for the other processes.
    os._exit(LOST if lost else 1)
