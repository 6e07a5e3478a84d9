"""Measures the time of an accelerator's kernels in a run, summed for each part of the net."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

# The kernels of libraries, by their names.
LIBRARIES = {
    "attention": r"fmha|flash|sdpa",
    "convolutions": r"cudnn|fprop|dgrad|wgrad|convolve|nchw|nhwc",
    "matrix products": r"gemm|cublas|nvjet|cutlass|_dot_",
}


def costs(run: Callable[[], object], program: str) -> dict[str, list]:
    """Returns {kind of work: [seconds, number of kernels]}, the most expensive kind first.

    Args:
        run: a function that does the work once, and returns when it is done.
        program: the text of the compiled program, which has the source line of every operation.
    """
    scopes = {_plain(name): scope for name, scope in re.findall(r'%([\w.\-]+) = [^\n]*?op_name="([^"]*)"', program)}
    totals: dict[str, list] = defaultdict(lambda: [0.0, 0])
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        lines = [line for plane in planes if plane.name.startswith("/device:GPU:0") for line in plane.lines]
        for event in (event for line in lines if line.name.startswith("Stream") for event in line.events):
            total = totals[_kind(event, scopes)]
            total[0] += event.duration_ns / 1e9
            total[1] += 1
    return dict(sorted(totals.items(), key=lambda item: -item[1][0]))


def _kind(event: Any, scopes: dict[str, str]) -> str:
    # A kernel of XLA has the name of its operation. A kernel of a library is identified by the operation that called
    # it, unless that operation is a CUDA graph.
    names = [_plain(name) for name in (event.name, str(dict(event.stats).get("hlo_op", "")))]
    scope = next((scopes[name] for name in names if name in scopes), "")
    backward = "backward " if "transpose(" in scope else ""
    for library, pattern in LIBRARIES.items():
        if re.search(pattern, " ".join(names)):
            return backward + library
    # The last modules or jitted functions around an operation: "block/norm" for "net/up_0/items_3/block_0/norm/mul".
    path = re.sub(r"\w+\(|\)|checkpoint/|rematted_computation/", "", scope)
    return backward + ("/".join(re.sub(r"_\d+$", "", part) for part in path.split("/")[-3:-1]) or names[0])


def _plain(name: str) -> str:
    return re.sub(r"[.-]", "_", name)
