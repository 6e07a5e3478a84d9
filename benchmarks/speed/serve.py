"""Runs a process that does one piece of work on request. Requests are lines of text, and replies are lines of JSON."""

import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Job:
    """A piece of work that is ready to be done.

    Fields:
        run: a function that does the work, and returns the result when it is done.
        facts: values that are known before the work, such as the seconds of compiling.
        costs: a function that returns {kind of work: [seconds, number of kernels]}; empty if these are not known.
        device_memory: a function that returns the accelerator's peak of bytes in use since the start; None without
            accelerator.
        keep: an object that is kept alive as long as the job.
    """

    run: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)
    device_memory: Callable[[], int | None] = lambda: None
    costs: Callable[[], dict[str, list]] = dict
    keep: Any = None


def serve(start: Callable[[], Job]) -> None:
    """Prepares the work, prints its facts, and then answers requests from standard input until the input ends.

    The request "run" does the work, and returns the seconds it took and its peak of memory. "costs" returns the seconds
    for each kind of work. "save PATH" writes the last result as a NumPy array.
    """
    replies = sys.stdout
    sys.stdout = sys.stderr  # the output of libraries must not be a reply

    def reply(**facts: Any) -> None:
        print(json.dumps(facts), file=replies, flush=True)

    job = start()
    made = job.run()
    reply(**job.facts, since_start=time.time() - _born())
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "run":
            reset_peak()
            began = time.perf_counter()
            made = job.run()
            seconds = time.perf_counter() - began
            reply(seconds=seconds, memory=peak(), device_memory=job.device_memory())
        elif command == "costs":
            reply(costs=job.costs())
        elif command == "save":
            np.save(rest, np.asarray(made, np.float32))
            reply()


def _born() -> float:
    """Returns when this process started, in seconds since the epoch; if unknown, when this was first called."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    return _IMPORTED


_IMPORTED = time.time()


def reset_peak() -> None:
    with contextlib.suppress(OSError, AttributeError):
        # Memory that compiling and loading have freed is returned first, so that it does not count.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Returns the peak of this process's memory in bytes since the last reset; 0 if the system does not report it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0
