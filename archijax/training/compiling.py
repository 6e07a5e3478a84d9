"""Compiles a training step in a thread, and ends a process while the compiler is still running."""

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
    """Compiles a step in a thread. The caller can do other work during the compilation.

    The compiler gets options for the platform of the devices. ``jax.pmap`` itself does not accept such options. With
    several processes, the step cannot be a result of ``jax.pmap``: each process has only a part of the arguments, and
    only a call of the step can join the parts.

    Args:
        step: the result of ``jax.jit`` or ``jax.pmap``.
        devices: the devices of the step.
        arguments: example arguments of the step, as arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        A function that waits for the compiled step and returns it. The function also clears the caches of JAX. Clearing
        the caches frees the memory of tracing and compiling, which is 0.7 GiB for a large net. All other functions are
        compiled again at their next call.
    """
    lowered, options = step.lower(*arguments), compiler_options(devices[0].platform)
    pool = ThreadPoolExecutor(1, thread_name_prefix=_COMPILER)
    pending = pool.submit(lowered.compile, compiler_options=options)
    pool.shutdown(wait=False)

    def wait() -> Compiled:
        compiled = pending.result()
        jax.clear_caches()  # the caches hold the traces of all functions in the step
        # glibc does not return freed memory to the system by itself.
        with contextlib.suppress(OSError, TypeError, AttributeError):  # another system's C library
            ctypes.CDLL(None).malloc_trim(0)
        return compiled

    return wait


def leave(status: int) -> NoReturn:
    """Ends the process with the exit status ``status``, without waiting for a compiler that is still running."""
    compilers = [thread for thread in threading.enumerate() if thread.name.startswith(_COMPILER)]
    with contextlib.suppress(KeyboardInterrupt):
        for thread in compilers:
            thread.join(0.5)  # a thread that is done ends in this time
    if any(thread.is_alive() for thread in compilers):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
