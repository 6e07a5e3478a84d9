"""Shows the progress of a run, measures times, and handles SIGINT and SIGTERM."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from archijax.cli import say


class Progress:
    """Shows a progress bar with the loss, steps per second, seconds of audio per second and the remaining time.

    Args:
        first: the number of steps that the run has already taken.
        steps: the number of steps that the run takes in all.
        audio_seconds: the number of seconds of audio in a batch.
        hidden: whether the bar is hidden.
    """

    def __init__(self, first: int, steps: int, audio_seconds: float, hidden: bool = False):
        # In a log file, the bar is printed rarely.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        self.audio_seconds = audio_seconds
        self._last, self._mean = time.perf_counter(), None
        self._bar = tqdm(
            total=steps, initial=first, desc="training", unit="step", mininterval=interval, dynamic_ncols=True,
            disable=hidden,
        )  # fmt: skip

    def update(self, loss: float) -> None:
        """Counts one step."""
        now = time.perf_counter()
        took, self._last = now - self._last, now
        self._mean = took if self._mean is None else self._mean + 0.05 * (took - self._mean)
        self._bar.set_postfix(loss=f"{loss:.4f}", audio=f"{self.speed() * self.audio_seconds:.3g} s/s", refresh=False)
        self._bar.update()

    def speed(self) -> float:
        """Returns the recent speed in steps per second; 0 before the first step."""
        return 1 / self._mean if self._mean else 0.0

    def close(self) -> None:
        self._bar.close()


class Clock:
    """Measures, on the host, the time that steps take for each kind of work.

    "data" is the time for reading the next batch and sending it to the devices. "compute" is the time for starting the
    step, which on a CPU includes the computation. "wait" is the time for which the host waits for the results of an
    accelerator. If "data" is long and "wait" is short, the devices must wait for data.
    """

    def __init__(self):
        self._spent, self._steps = {}, 0

    @contextlib.contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Measures the time of the block, and adds it to the time of the kind of work `what`."""
        began = time.perf_counter()
        yield
        self._spent[what] = self._spent.get(what, 0.0) + time.perf_counter() - began

    def step(self) -> None:
        """Counts one step."""
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Returns {"seconds_WHAT": seconds per step since the last call} for each kind of work WHAT."""
        taken = {f"seconds_{what}": spent / max(self._steps, 1) for what, spent in self._spent.items()}
        self._spent, self._steps = {}, 0
        return taken


class Profile:
    """Traces some steps with `jax.profiler`, for TensorBoard or Perfetto.

    Args:
        folder: the folder to which the trace is written.
        first: the step after which the trace begins.
        steps: the number of steps to trace; 0: no trace.
    """

    def __init__(self, folder: Path, first: int, steps: int):
        self.folder, self.first, self.last, self.running = folder, first, first + steps, False

    def before(self, step: int) -> None:
        """Begins the trace if `step` is the first step of the trace. Call this method before every step."""
        if self.first < step <= self.last and not self.running:
            jax.profiler.start_trace(str(self.folder))
            self.running = True

    def after(self, step: int, result: object) -> None:
        """Waits for `result` and ends the trace, if `step` is the last step of the trace. Call this method after every
        step with the result of the step."""
        if self.running and step >= self.last:
            jax.block_until_ready(result)
            self.close()
            say(f"the profile of the steps {self.first + 1} to {self.last} is in {self.folder}")

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self.running:
            jax.profiler.stop_trace()
            self.running = False


class Signals:
    """Handles SIGINT and SIGTERM: after a signal, the current step can be finished and saved. A second signal ends the
    program.

    With several processes, a SIGTERM to one process stops all processes at the same step, and Ctrl-C ends a process at
    once. Use the class as a context manager. At the end of the block, the previous handlers are restored.
    """

    def __enter__(self) -> "Signals":
        self.seen: int | None = None
        heard = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
        self._former = {number: signal.signal(number, self._note) for number in heard}
        return self

    def stop(self, step: int) -> int | None:
        """Returns the number of the signal if the run must stop after `step`, else None. Call this method after every
        step."""
        if jax.process_count() > 1:
            return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None
        return self.seen

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = number
        for each in self._former:
            signal.signal(each, signal.SIG_DFL)
        say(f"{signal.Signals(number).name}: finishing this step and saving; once more to stop at once.")
