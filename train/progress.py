"""What a running program shows and hears: a progress bar, sentences above it, and signals to stop."""

import signal
import sys
import time
from types import FrameType

from tqdm import tqdm

from archijax.cli import say


class Progress:
    """A bar over the steps with loss, steps per second, seconds of audio per second and the time left.

    Args:
        first: steps already taken.
        steps: steps in all.
        audio_seconds: seconds of audio in a batch.
    """

    def __init__(self, first: int, steps: int, audio_seconds: float):
        # A log file wants a line now and then, not a moving bar.
        interval = 0.5 if sys.stderr.isatty() else 30.0
        self.audio_seconds = audio_seconds
        self._last, self._mean = time.perf_counter(), None
        self._bar = tqdm(
            total=steps, initial=first, desc="training", unit="step", mininterval=interval, dynamic_ncols=True
        )

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


class Signals:
    """Notes SIGINT and SIGTERM in `seen`, so that a step can be finished and saved; a second one ends the program.

    As a context manager it puts the former handlers back.
    """

    def __enter__(self) -> "Signals":
        self.seen: int | None = None
        self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = number
        for each in self._former:
            signal.signal(each, signal.SIG_DFL)
        say(f"{signal.Signals(number).name}: finishing this step and saving; once more to stop at once.")
