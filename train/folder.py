"""What a run writes to its folder, and reads from it to go on.

Of several processes the first alone does, but for checkpoints, of which each has its shards.
"""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from archijax.atomic import replacing
from archijax.cli import say
from archijax.errors import InputError
from archijax.training import processes
from archijax.training.checkpoints import Checkpoints, steps
from train.config import TrainConfig, as_json, differences
from train.logs import MetricsLog
from train.manifest import Manifest, index
from train.samples import Samples


class Folder:
    """The folder of a run. Every process calls its methods; what the first reads, all get.

    Args:
        out: the folder, which appears with the first thing in it.
        config: of the run.
        samples: those of the checkpoints.

    Raises:
        InputError: it holds a run with settings that `config` cannot continue.
    """

    def __init__(self, out: Path, config: TrainConfig, samples: Samples):
        self.out, self.config, self.samples = out, config, samples
        self._leads, self._stack = processes.leads(), contextlib.ExitStack()
        # Of the loss since the last checkpoint: sum and number.
        self._since = [0.0, 0]
        processes.from_first(self._compare)

    def write_settings(self) -> None:
        """Writes config.json."""
        processes.from_first(self._write_settings)

    def index(self, data: str | Path) -> Manifest:
        """The sound files in `data`, listed in manifest.json."""
        return processes.from_first(lambda: index(data, self.out / "manifest.json"))

    def restore(self, target: Any) -> tuple[Any, dict] | None:
        """The newest checkpoint's state and its record; None of a new run.

        Args:
            target: shapes of the state, and where its arrays lie (see :meth:`Checkpoints.restore`).
        """
        config = self.config
        self._checkpoints = self._stack.enter_context(
            contextlib.closing(
                Checkpoints(
                    self.out / "checkpoints",
                    keep=config.keep_checkpoints,
                    keep_every=config.keep_every,
                    keep_best=config.keep_best,
                    say=say,
                )
            )
        )
        restored = self._checkpoints.restore(target)
        if restored is not None:
            self._since = restored[1].get("since", self._since)
        return restored

    def start_log(self, step: int, record: Mapping) -> None:
        """Opens the metrics to go on after a step, whose checkpoint has this record."""
        if self._leads:
            log = MetricsLog(
                self.out / "metrics.jsonl",
                every=self.config.log_every,
                resumed=step,
                window=record.get("window"),
                tensorboard=self.out / "tensorboard" if self.config.tensorboard else None,
            )
            self._log = self._stack.enter_context(contextlib.closing(log))

    def add(self, step: int, values: Mapping[str, Any], speed: Callable[[], Mapping[str, float]]) -> None:
        """Logs the metrics of a step, and where a line is due the speed."""
        if math.isfinite(values["loss"]):
            self._since = [self._since[0] + values["loss"], self._since[1] + 1]
        if self._leads:
            self._log.add(step, values)
            if step % self.config.log_every == 0:
                self._log.speed(step, speed())

    def save(self, step: int, state: Any, facts: Mapping[str, Any], score: float | None, due: bool) -> None:
        """Starts to write a checkpoint.

        Args:
            facts: what is recorded beside the state.
            score: its validation loss; None takes the mean loss since the last one that was due.
            due: by its step; else it is no candidate for the best.
        """
        if due and score is None and self._since[1]:
            score = self._since[0] / self._since[1]
        if due:
            self._since = [0.0, 0]
        window = self._log.window if self._leads else None
        record = {"step": step, "config": as_json(self.config), "window": window, "since": self._since}
        self._checkpoints.save(step, state, {**record, **facts}, score if due else None)

    def sample(self, step: int, variables: Any) -> None:
        """Makes and writes the samples of a model whose variables are on the first host."""
        if self._leads:
            self.samples.write(step, variables)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk."""
        self._checkpoints.wait()

    def close(self) -> None:
        """Waits for the last checkpoint and closes the files."""
        self._stack.close()

    def _compare(self) -> None:
        path = self.out / "config.json"
        if not steps(self.out / "checkpoints") or not path.exists():
            return
        try:
            theirs = json.loads(path.read_text())
        except ValueError:
            raise InputError(f"{path} is not readable as JSON: restore it, or train into another folder.") from None
        if different := "; ".join(differences(as_json(self.config), theirs)):
            raise InputError(
                f"{self.out} holds a run with other settings: {different}. Use the same settings, or another folder."
            )

    def _write_settings(self) -> None:
        with replacing(self.out / "config.json") as unfinished:
            unfinished.write_text(json.dumps(as_json(self.config), indent=2) + "\n")
