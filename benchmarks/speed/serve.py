"""A process that does one piece of work whenever it is told to: lines in, lines of JSON out."""

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
    """Work that is ready.

    Fields:
        run: does it, waits for it, and returns what it made.
        facts: what is known before, such as seconds of compiling.
        costs: seconds and kernels by kind of work; empty where they cannot be told.
        device_memory: the most bytes that were in use on the accelerator since the start; None where there is none.
        keep: what is held as long as the work.
    """

    run: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)
    device_memory: Callable[[], int | None] = lambda: None
    costs: Callable[[], dict[str, list]] = dict
    keep: Any = None


def serve(start: Callable[[], Job]) -> None:
    """Starts the work, says what it knows, and then follows standard input until it ends.

    "run" is answered by seconds and the peak of the memory in use meanwhile; "costs" by what the time goes to; "save
    PATH" by writing what the work made last as a NumPy array.
    """
    replies = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no reply

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
    """When this process started, in seconds since the epoch; where the system does not say it, when it asked first."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    return _IMPORTED


_IMPORTED = time.time()


def reset_peak() -> None:
    with contextlib.suppress(OSError, AttributeError):
        # What compiling and loading have freed is given back first: it is not the work's.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes of the host's memory that this process has held at most since the last reset; 0 where nothing says it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0
