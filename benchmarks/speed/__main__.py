"""Runs both sides of the cases in turn, and prints the ratio of their speeds."""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from archijax.atomic import replacing
from benchmarks.speed.cases import CPU, GPU, Case

ROOT = Path(__file__).parent.parent.parent
OURS, THEIRS = "benchmarks.speed.ours", "benchmarks.speed.theirs"
# Operations per second of dense bfloat16 products with float32 sums, from NVIDIA's data sheets.
NOMINAL = {"A100": 312e12, "H100 80GB HBM3": 989e12, "H200": 989e12}


class Side:
    """A process in which a case is ready to run. Used as a context manager, it ends the process when the block ends."""

    def __init__(self, *command: str):
        self.process = subprocess.Popen(
            [command[0], "-m", *command[1:]], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.facts = self._reply()

    def ask(self, command: str) -> dict[str, Any]:
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args[2:])} ended with status {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()


def compared(
    case: Case, peer: str | None, weights: Path, repeats: int, ours: Sequence[str] = (), theirs: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns a case's median times for both libraries, measured in turn; without `peer`, for ours only."""
    result: dict[str, Any] = {"case": case.name, "what": case.what, "options": [*ours, *theirs]}
    if case.fresh:
        # Random weights, as at the start of a training.
        with Side(sys.executable, OURS, case.name, *ours) as fresh:
            result["first_step"] = fresh.facts["since_start"]
    with contextlib.ExitStack() as stack:
        own = Side(sys.executable, OURS, case.name, "--weights", str(weights), *ours)
        sides = {"ours": stack.enter_context(own)}
        if peer is not None:
            sides["theirs"] = stack.enter_context(Side(peer, THEIRS, case.name, str(weights), *theirs))
        runs: dict[str, list[dict]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, side in sides.items():
                runs[name].append(side.ask("run"))
        for name, side in sides.items():
            seconds = [run["seconds"] for run in runs[name]]
            where = "memory" if runs[name][0]["device_memory"] is None else "device_memory"
            memory = [run[where] for run in runs[name]]
            result[name] = {**side.facts, "seconds": median(seconds), "all": seconds, "memory": max(memory)}
        result["costs"] = own.ask("costs")["costs"]
        if peer is not None:
            result["ratio"] = result["theirs"]["seconds"] / result["ours"]["seconds"]
            result["difference"] = _difference(sides, weights.parent) if case.work != "training" else None
        return result


def _difference(sides: dict[str, Side], folder: Path) -> float:
    """Returns ||ours - theirs|| / ||theirs|| for the last results of both processes."""
    made = {}
    for name, side in sides.items():
        side.ask(f"save {folder / name}.npy")
        made[name] = np.load(folder / f"{name}.npy")
    return float(np.linalg.norm(made["ours"] - made["theirs"]) / np.linalg.norm(made["theirs"]))


def line(result: dict[str, Any], case: Case, peak: float) -> str:
    """Returns a result as a line of text, with the share of the machine's peak speed that each library reaches."""
    if "failed" in result:
        return f"{case.what:<46}{result['failed']}"
    ours, theirs = result["ours"], result.get("theirs")

    def told(side: dict[str, Any]) -> str:
        share = result["operations"] / side["seconds"] / peak
        return f"{side['seconds']:9.3f} s {share:5.0%} {side['memory'] / 2**30:6.2f} GiB"

    text = f"{case.what:<46}{told(ours)}"
    if theirs is not None:
        text += f"  {told(theirs)}  {result['ratio']:5.2f}x"
    if result.get("difference") is not None:
        text += f"  differ by {result['difference']:.0e}"
    if case.work != "forward":
        text += f"  {case.seconds / ours['seconds']:.3g}x real time"
    if "first_step" in result:
        text += f"  first step {result['first_step']:.0f} s after the start"
    text += f"  compiled in {ours['compile']:.1f} s"
    spent = sum(seconds for seconds, _ in result["costs"].values())
    largest = [f"{kind} {seconds / spent:.0%}" for kind, (seconds, _) in list(result["costs"].items())[:3]]
    return f"{text}  most of it in {', '.join(largest)}" if largest else text


@contextlib.contextmanager
def weights_of(case: Case) -> Iterator[tuple[Path, float]]:
    """Yields (a file of random weights for both libraries, the number of operations of the case)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        yield path, float(_told(case.name, "--write", str(path), on="cpu"))


def _told(*arguments: str, on: str) -> str:
    """Runs a process of our library on the platform `on`, and returns its output."""
    command = [sys.executable, "-m", OURS, *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": on}
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout.strip()


def variants(options: argparse.Namespace, case: Case) -> Iterator[tuple[list[str], list[str]]]:
    """Yields (our options, their options) for each variant in which a case is measured."""
    if options.device == "cpu":
        yield [], []
        return
    for dtype, compile_ in (("bfloat16", []), ("bfloat16", ["--compile"]), ("float32", [])):
        yield ["--dtype", dtype], ["--device", "cuda", "--dtype", dtype, *compile_]
    if any(case.net.get("attentions", ())):
        for attention in ("xla", "cudnn"):
            yield ["--dtype", "bfloat16", "--attention", attention], []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("cases", nargs="*", help="their names; all if none is given")
    parser.add_argument("--peer", help="Python that has the PyTorch originals; without, only this library is timed")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="fewer cases and runs, in less than five minutes")
    parser.add_argument("--repeats", type=int, help="runs of each side, of which the median counts")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"), help="the results as JSON")
    options = parser.parse_args()
    known = {case.name: case for case in (CPU if options.device == "cpu" else GPU)}
    if unknown := [name for name in options.cases if name not in known]:
        print(f"There is no case {unknown[0]}: known are {', '.join(known)}.", file=sys.stderr)
        return 2
    cases = [known[name] for name in options.cases] or [c for c in known.values() if c.quick or not options.quick]
    repeats = options.repeats or (3 if options.quick else 5)
    # Both sides share the accelerator's memory. On a machine with an accelerator, the CPU is timed only on request.
    os.environ |= {
        "JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda"}[options.device], "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
    }  # fmt: skip
    platform_ = os.environ["JAX_PLATFORMS"]
    peaks, results = {}, []
    for dtype in ("float32",) if options.device == "cpu" else ("bfloat16", "float32"):
        peak, device = _told("peak", "--dtype", dtype, on=platform_).split(maxsplit=1)
        peaks[dtype] = float(peak)
        print(f"{device}: matrix products of {dtype} reach {peaks[dtype]:.3g} operations a second", flush=True)
    if nominal := next((value for name, value in NOMINAL.items() if name in device), None):
        print(f"{device}: {nominal:.3g} in bfloat16 by its data sheet", flush=True)
    facts = {"device": device, "machine": platform.platform(), "processors": os.cpu_count(), "peaks": peaks}
    for case in cases:
        with weights_of(case) as (weights, operations):
            for ours, theirs in variants(options, case):
                peer = options.peer if options.device == "cpu" or theirs else None
                try:
                    result = compared(case, peer, weights, repeats, ours, theirs)
                except RuntimeError as error:  # usually out of memory
                    result = {"case": case.name, "options": [*ours, *theirs], "failed": str(error)}
                result["operations"] = operations
                peak = peaks["bfloat16" if "bfloat16" in ours else "float32"]
                print(line(result, case, peak), " ".join([*ours, *theirs]), flush=True)
                results.append(result)
                with replacing(options.out) as unfinished:
                    unfinished.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    return 1 if any("failed" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
