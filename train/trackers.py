"""Sends metrics and sounds to TensorBoard and Weights & Biases, in addition to the run's own files."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.image import imread

from archijax.atomic import replacing
from archijax.errors import InputError
from train.config import TrainConfig, as_json


class Tracker(Protocol):
    """Shows the metrics and sounds of a run."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the numbers in `values`, a dict by name."""

    def sound(self, step: int, name: str, sound: np.ndarray, sample_rate: int, picture: Path) -> None:
        """Shows a sound [time, channels] in [-1, 1] and the PNG file of the spectrogram."""

    def close(self) -> None:
        """Writes the values that are still in memory, and closes the tracker."""


class TensorBoard:
    """Writes metrics, sounds and spectrograms to files for TensorBoard.

    Args:
        folder: the folder to which the files are written.
        step: the step from which the run continues. Values of later steps are dropped.
    """

    def __init__(self, folder: Path, step: int):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "tensorboardX") from None
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def sound(self, step: int, name: str, sound: np.ndarray, sample_rate: int, picture: Path) -> None:
        self._writer.add_audio(f"sound/{name}", sound, step, sample_rate=sample_rate)
        self._writer.add_image(f"spectrogram/{name}", imread(picture), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """Sends metrics, sounds and spectrograms to Weights & Biases. With WANDB_MODE=offline, the data stay on this
    machine.

    Args:
        project: the name of the project.
        out: the folder of the run. Weights & Biases shows the name of this folder. The id of the run is stored in this
            folder, so a continued run has the same id.
        settings: the settings of the run.
    """

    def __init__(self, project: str, out: Path, settings: dict[str, Any]):
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        kept = out / "wandb_id"
        if not kept.exists():
            with replacing(kept) as unfinished:
                unfinished.write_text(uuid.uuid4().hex[:12])
        self._wandb = wandb
        self._run = wandb.init(
            project=project, name=out.absolute().name, id=kept.read_text().strip(), resume="allow", dir=str(out),
            config=settings,
        )  # fmt: skip

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def sound(self, step: int, name: str, sound: np.ndarray, sample_rate: int, picture: Path) -> None:
        audio = self._wandb.Audio(sound, sample_rate=sample_rate, caption=name)
        image = self._wandb.Image(str(picture), caption=name)
        self._run.log({f"sound/{name}": audio, f"spectrogram/{name}": image}, step=step)

    def close(self) -> None:
        self._run.finish()


def trackers(config: TrainConfig, out: Path, step: int) -> tuple[Tracker, ...]:
    """Returns the trackers that the settings name. They continue after `step`. Raises InputError if a package is
    missing."""
    chosen: list[Tracker] = []
    if config.tensorboard:
        chosen.append(TensorBoard(out / "tensorboard", step))
    if config.wandb is not None:
        chosen.append(WeightsAndBiases(config.wandb, out, as_json(config)))
    return tuple(chosen)


def _missing(name: str, package: str) -> InputError:
    return InputError(f"{name} is on, but {package} is not installed: pip install 'archijax[{name}]'.")
