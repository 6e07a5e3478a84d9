"""What a running program shows and hears: a progress bar, where its time goes, and signals to stop."""

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
    """A bar over the steps with loss, steps per second, seconds of audio per second and the time left.

    Args:
        first: steps already taken.
        steps: steps in all.
        audio_seconds: seconds of audio in a batch.
        hidden: shows no bar.
    """

    def __init__(self, first: int, steps: int, audio_seconds: float, hidden: bool = False):
        # A log file wants a line now and then, not a moving bar.
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
        """Steps per second lately; 0 before it is known."""
        return 1 / self._mean if self._mean else 0.0

    def close(self) -> None:
        self._bar.close()


class Clock:
    """Where the time of the steps goes, as the host sees it.

    data: waiting for the next batch and sending it. compute: starting the step, which is where a CPU computes. wait:
    until an accelerator has its results. Much data and little wait means that the devices starve.
    """

    def __init__(self):
        self._spent, self._steps = {}, 0

    @contextlib.contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Adds the time of the block to `what`."""
        began = time.perf_counter()
        yield
        self._spent[what] = self._spent.get(what, 0.0) + time.perf_counter() - began

    def step(self) -> None:
        """Counts one step."""
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Seconds per step since the last call, by what they went to."""
        taken = {f"seconds_{what}": spent / max(self._steps, 1) for what, spent in self._spent.items()}
        self._spent, self._steps = {}, 0
        return taken


class Profile:
    """A trace of some steps by `jax.profiler`, for TensorBoard or Perfetto.

    Args:
        folder: where it goes.
        first: the step before the first to trace.
        steps: how many to trace; 0 for none.
    """

    def __init__(self, folder: Path, first: int, steps: int):
        self.folder, self.first, self.last, self.running = folder, first, first + steps, False

    def before(self, step: int) -> None:
        """Called before every step: begins the trace where it is due."""
        if self.first < step <= self.last and not self.running:
            jax.profiler.start_trace(str(self.folder))
            self.running = True

    def after(self, step: int, result: object) -> None:
        """Called after every step with what it gave: ends the trace, when that is there, where it is due."""
        if self.running and step >= self.last:
            jax.block_until_ready(result)
            self.close()
            say(f"the profile of the steps {self.first + 1} to {self.last} is in {self.folder}")

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self.running:
            jax.profiler.stop_trace()
            self.running = False


class Signals:
    """Notes SIGINT and SIGTERM, so that a step can be finished and saved; a second one ends the program.

    Of several processes JAX notes a SIGTERM to any, and makes all stop at the same step; Ctrl-C ends one at once.
    As a context manager it puts the former handlers back.
    """

    def __enter__(self) -> "Signals":
        self.seen: int | None = None
        heard = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
        self._former = {number: signal.signal(number, self._note) for number in heard}
        return self

    def stop(self, step: int) -> int | None:
        """The number of the signal for which the run is to stop after this step, asked at every step, or None."""
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
