"""Logs the metrics and the speed of a run to files of JSON lines and to trackers. Metrics are means over several
steps."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from archijax.atomic import replacing
from train.trackers import Tracker

# The log has the last values of these metrics, not their means.
LAST = {"learning_rate", "skipped"}
WEIGHT = ":weight"


class MetricsLog:
    """Writes a line of `metrics.jsonl` after steps that are multiples of `every`, and after the last step. A line has
    the means since the previous line.

    The lines do not depend on the speed of the machine, so a resumed run and an uninterrupted run write the same file.
    The speed is written to `speed.jsonl` in the same folder.

    Args:
        path: the path of `metrics.jsonl`. Existing lines for steps after `resumed` are removed, because the run writes
            them again.
        every: the number of steps per line.
        last: the last step of the run.
        resumed: the step from which the run continues.
        window: the sums since the last line, as the checkpoint at `resumed` has stored them.
        trackers: the trackers that also show the metrics.
    """

    def __init__(
        self,
        path: Path,
        *,
        every: int,
        last: int = 0,
        resumed: int = 0,
        window: Mapping | None = None,
        trackers: Sequence[Tracker] = (),
    ):
        self.every, self.last = every, last
        self.window = {name: list(values) for name, values in (window or {}).items()}
        self._trackers = trackers
        self._speed = path.with_name("speed.jsonl")
        _truncate(path, resumed)
        # The file is flushed after each line, so that a killed run loses no line.
        self._file = path.open("a", buffering=1)

    def add(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Adds the metrics of one step, and writes a line to `metrics.jsonl` if a line is due. Returns whether a line
        was due.

        The sum of NAME is divided by the sum of NAME:weight, if there is this metric (see `archijax.contract.Metrics`).
        Values that are not finite are left out of the means.
        """
        # The loss comes first, because readers look for it.
        for name, value in sorted(metrics.items(), key=lambda metric: (metric[0] != "loss", metric[0])):
            if name.endswith(WEIGHT):
                continue
            total = self.window.setdefault(name, [0.0, 0])
            if name in LAST:
                total[:] = [value, 1]
            elif math.isfinite(value):
                total[0] += value
                total[1] += metrics.get(name + WEIGHT, 1)
        due = step % self.every == 0 or step == self.last
        if due:
            means = {name: total / count if count else None for name, (total, count) in self.window.items()}
            self.window = {}
            self._file.write(json.dumps({"step": step, **means}) + "\n")
            self._show(step, means)
        return due

    def speed(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a line with the speed of the run to `speed.jsonl`."""
        with self._speed.open("a") as file:
            file.write(json.dumps({"step": step, **{name: round(value, 6) for name, value in values.items()}}) + "\n")
        self._show(step, values)

    def _show(self, step: int, values: Mapping[str, float | None]) -> None:
        known = {name: value for name, value in values.items() if value is not None}
        for tracker in self._trackers:
            tracker.scalars(step, known)

    def close(self) -> None:
        self._file.close()


def _truncate(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            # The last line of a killed run can be truncated. Its step is after the last checkpoint.
            if json.loads(line)["step"] > step:
                break
        except ValueError:
            break
        kept.append(line)
    with replacing(path) as unfinished:
        unfinished.write_text("".join(kept))
