"""What a judge is, what it is given, and what it answers."""

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf
import soxr

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class JudgeError(ValueError):
    """The input of the judges is wrong. The message is one sentence: what, the value found, what would be right."""


@dataclass(frozen=True)
class Clip:
    """One sound: its name, audio [time] in [-1, 1], the channels averaged, rate in Hz, and what is known of it."""

    name: str
    audio: np.ndarray
    rate: int
    fields: Mapping[str, object] = field(default_factory=dict)

    def at(self, rate: int) -> np.ndarray:
        """The audio at another sample rate, float32."""
        return soxr.resample(self.audio, self.rate, rate).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """Sounds to be judged, and the sounds that they are to be like.

    With `paired` each made clip has the reference of the same place in the list; otherwise the references are a set.
    """

    made: Sequence[Clip]
    reference: Sequence[Clip] = ()
    paired: bool = False

    @cached_property
    def pairs(self) -> list[tuple[Clip, Clip]]:
        """Made clip and reference."""
        return list(zip(self.made, self.reference, strict=True)) if self.paired else []

    def asked(self, name: str) -> np.ndarray:
        """A field of each made clip as float, nan where it is not known."""
        return np.array([float(clip.fields.get(name, "nan")) for clip in self.made])

    def wanted(self, name: str, heard: Callable[[Clip], float]) -> np.ndarray:
        """A field of each made clip, or else what is heard of its reference; nan where there is neither."""
        asked = self.asked(name)
        for i in np.flatnonzero(np.isnan(asked)) if self.paired else ():
            asked[i] = heard(self.reference[i])
        return asked


@dataclass(frozen=True)
class Column:
    """One value per made clip, or one for all: [n] or [1]; and whether higher is better."""

    values: np.ndarray
    higher: bool


class Judge(Protocol):
    """A module of `benchmarks.judges.panel`: a judge is added by a file there, and nothing else."""

    NEEDS: str
    """What it needs of a case: "reference" (paired), "references" (a set), the name of a field, or ""."""

    def judge(self, case: Case) -> dict[str, Column]:
        """Columns by name, with units; nan where a clip cannot be judged."""


def panel() -> dict[str, Judge]:
    """All judges by the names of their modules."""
    package = importlib.import_module("benchmarks.judges.panel")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return {name: importlib.import_module(f"benchmarks.judges.panel.{name}") for name in names}


def suits(judge: Judge, case: Case) -> bool:
    """Whether a case has what a judge needs."""
    if judge.NEEDS == "reference":
        return case.paired
    if judge.NEEDS == "references":
        return len(case.reference) > 1 and len(case.made) > 1
    return not judge.NEEDS or any(judge.NEEDS in clip.fields for clip in case.made)


def read(folder: Path, fields: Mapping[str, Mapping[str, object]] | None = None) -> list[Clip]:
    """The sounds in a folder and the folders in it, by name without suffix; fields are those of its metadata.jsonl.

    Args:
        folder: the folder.
        fields: of the sounds by their names, in place of metadata.jsonl's.

    Raises:
        JudgeError: there is no sound, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("**/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise JudgeError(f"There is no sound in {folder}: a folder with files {', '.join(SUFFIXES)} is needed.")
    known = metadata(folder) if fields is None else fields
    return [read_clip(path, folder, known) for path in paths]


def read_clip(path: Path, folder: Path, fields: Mapping[str, Mapping[str, object]]) -> Clip:
    """A sound by its name in a folder, with its own of the fields; JudgeError if it cannot be read."""
    try:
        audio, rate = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise JudgeError(f"{path} cannot be read: {error.error_string}.") from None
    name = str(path.relative_to(folder).with_suffix(""))
    return Clip(name, audio.mean(axis=1), rate, fields.get(name, {}))


def metadata(folder: Path) -> dict[str, dict[str, object]]:
    """Fields of the sounds by name, from metadata.jsonl of a folder of `benchmarks.sets`; empty if there is none."""
    path = folder / "metadata.jsonl"
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {str(Path(line["file_name"]).with_suffix("")): line for line in lines}
