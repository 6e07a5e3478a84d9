"""Writes the files in the folder of a run, and reads them to continue the run.

With several processes, only the first process reads and writes files. The exception is checkpoints: each process reads
and writes its own shards.
"""

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
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
from train.trackers import Tracker
from train.vocabulary import fields_of, with_stored_values


class Folder:
    """Reads and writes the folder of a run. All processes must call the methods of this class. The first process reads
    the files, and all processes get the result.

    Args:
        out: the path of the folder. The folder is created when the first file is written.
        config: the settings of the run.

    Attributes:
        config: the settings of the run. In a continued run, they include the categories that were found in the data
            when the run began.

    Raises:
        InputError: the folder holds a run that cannot continue with these settings.
    """

    def __init__(self, out: Path, config: TrainConfig):
        self.out = out
        self._leads, self._stack = processes.leads(), contextlib.ExitStack()
        # The sum and the number of the losses since the last checkpoint.
        self._since = [0.0, 0]
        stored = processes.from_first(self._stored)
        self.config = config if stored is None else with_stored_values(config, stored)
        if stored is not None and (different := "; ".join(differences(as_json(self.config), stored))):
            advice = "Use the same ones, or another folder"
            if different.startswith("steps is") and ";" not in different:
                advice += f", with --init-from {out} to train longer"
            raise InputError(f"{out} has a run with other settings: {different}. {advice}.")

    def write_settings(self) -> None:
        """Writes config.json."""
        processes.from_first(self._write_settings)

    def index(self, data: Path, number: int = 0) -> Manifest:
        """Returns the manifest of the folder `data`, and writes the manifest to manifest.json. If `number` is above 0,
        the file is manifest-NUMBER.json."""
        settings, path = self.config.data, self.out / f"manifest{f'-{number}' if number else ''}.json"
        fields = fields_of(self.config)
        return processes.from_first(lambda: index(data, path, settings.captions, settings.columns, fields))

    def restore(self, target: Any) -> tuple[Any, dict] | None:
        """Returns (the state, the record) of the newest checkpoint, or None for a new run.

        Args:
            target: the shapes and the shardings of the state (see :meth:`Checkpoints.restore`).
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

    def start_log(self, step: int, record: Mapping, trackers: Sequence[Tracker]) -> None:
        """Opens the metrics files, to continue after `step`. `record` is the record of the checkpoint at `step`. The
        trackers get the metrics too."""
        if self._leads:
            log = MetricsLog(
                self.out / "metrics.jsonl",
                every=self.config.log_every,
                last=self.config.steps,
                resumed=step,
                window=record.get("window"),
                trackers=trackers,
            )
            self._log = self._stack.enter_context(contextlib.closing(log))

    def add(self, step: int, values: Mapping[str, Any], speed: Callable[[], Mapping[str, float]]) -> None:
        """Adds the metrics of a step to the log. If a line is written, the result of `speed()` is logged too."""
        if math.isfinite(values["loss"]):
            self._since = [self._since[0] + values["loss"], self._since[1] + 1]
        if self._leads and self._log.add(step, values):
            self._log.speed(step, speed())

    def save(self, step: int, state: Any, facts: Mapping[str, Any], score: float | None, due: bool) -> None:
        """Starts to write a checkpoint in the background.

        Args:
            facts: values to store in the checkpoint's record.
            score: the validation loss; None: the mean training loss since the last checkpoint with ``due``.
            due: whether the settings ask for a checkpoint at this step. Only checkpoints with ``due`` can be kept as
                the best checkpoints.
        """
        if due and score is None and self._since[1]:
            score = self._since[0] / self._since[1]
        if due:
            self._since = [0.0, 0]
        window = self._log.window if self._leads else None
        record = {"step": step, "config": as_json(self.config), "window": window, "since": self._since}
        self._checkpoints.save(step, state, {**record, **facts}, score if due else None)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk."""
        self._checkpoints.wait()

    def close(self) -> None:
        """Waits for the last checkpoint and closes the files."""
        self._stack.close()

    def _stored(self) -> dict | None:
        """Returns the stored settings of the run in this folder, or None if there is no run."""
        path = self.out / "config.json"
        if not steps(self.out / "checkpoints") or not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError:
            raise InputError(f"{path} cannot be read as JSON: restore it, or train into another folder.") from None

    def _write_settings(self) -> None:
        with replacing(self.out / "config.json") as unfinished:
            unfinished.write_text(json.dumps(as_json(self.config), indent=2) + "\n")
