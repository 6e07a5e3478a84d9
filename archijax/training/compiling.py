"""Compiling a training step in a thread, and ending a process while its compiler still works."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import jax
from jax.stages import Compiled

from archijax.compiler import compiler_options

_COMPILER = "compiler"


def compiling(step: Callable, devices: Sequence[jax.Device], *arguments: Any) -> Callable[[], Compiled]:
    """Compiles a jitted or mapped step for arguments of these shapes in a thread, so that there is time for the rest.

    The compiler's options are those of the devices, which pmap itself cannot take. Not for calls of a mapped step with
    several processes: each holds a part of the arguments that pmap alone joins.

    Returns:
        What waits for the compiled step. It also gives back the memory that only tracing and compiling have needed,
        0.7 GiB for a large net; other functions are compiled anew where they are called again.
    """
    lowered, options = step.lower(*arguments), compiler_options(devices[0].platform)
    pool = ThreadPoolExecutor(1, thread_name_prefix=_COMPILER)
    pending = pool.submit(lowered.compile, compiler_options=options)
    pool.shutdown(wait=False)

    def wait() -> Compiled:
        compiled = pending.result()
        jax.clear_caches()  # they hold what every function in the step was traced to
        # glibc keeps to itself what was freed.
        with contextlib.suppress(OSError, TypeError, AttributeError):  # another system's C library
            ctypes.CDLL(None).malloc_trim(0)
        return compiled

    return wait


def leave(status: int) -> NoReturn:
    """Ends the process, at once where an error has left a compiler at work: it cannot be stopped, and Python waits."""
    compilers = [thread for thread in threading.enumerate() if thread.name.startswith(_COMPILER)]
    with contextlib.suppress(KeyboardInterrupt):
        for thread in compilers:
            thread.join(0.5)  # what one that is done needs at most to end
    if any(thread.is_alive() for thread in compilers):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
