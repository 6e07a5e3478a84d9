"""The interface of judges: their inputs and their results."""

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
    """The input of the judges is wrong. The message says in one sentence what is wrong and what would be right."""


@dataclass(frozen=True)
class Clip:
    """One sound: its name, audio [time] in [-1, 1] with averaged channels, sample rate in Hz, and known fields."""

    name: str
    audio: np.ndarray
    rate: int
    fields: Mapping[str, object] = field(default_factory=dict)

    def at(self, rate: int) -> np.ndarray:
        """The audio at another sample rate, float32."""
        return soxr.resample(self.audio, self.rate, rate).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """Sounds to judge, and reference sounds.

    With `paired`, each made clip has the reference at the same position in the list. Otherwise the references are a
    set.
    """

    made: Sequence[Clip]
    reference: Sequence[Clip] = ()
    paired: bool = False

    @cached_property
    def pairs(self) -> list[tuple[Clip, Clip]]:
        """Pairs of made clip and reference."""
        return list(zip(self.made, self.reference, strict=True)) if self.paired else []

    def asked(self, name: str) -> np.ndarray:
        """A field of each made clip as float; nan if it is not known."""
        return np.array([float(clip.fields.get(name, "nan")) for clip in self.made])

    def wanted(self, name: str, heard: Callable[[Clip], float]) -> np.ndarray:
        """A field of each made clip, or else the result of `heard` for its reference; nan if there is neither."""
        asked = self.asked(name)
        for i in np.flatnonzero(np.isnan(asked)) if self.paired else ():
            asked[i] = heard(self.reference[i])
        return asked


@dataclass(frozen=True)
class Column:
    """One value per made clip [n], or one value for all clips [1], and whether higher is better."""

    values: np.ndarray
    higher: bool


class Judge(Protocol):
    """A module of `benchmarks.judges.panel`. A new file in that folder adds a judge."""

    NEEDS: str
    """The part of a case that the judge needs: "reference" (paired), "references" (a set), the name of a field, or
    ""."""

    def judge(self, case: Case) -> dict[str, Column]:
        """The columns by name, with units. Clips that cannot be judged have nan."""


def panel() -> dict[str, Judge]:
    """All judges by the names of their modules."""
    package = importlib.import_module("benchmarks.judges.panel")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return {name: importlib.import_module(f"benchmarks.judges.panel.{name}") for name in names}


def suits(judge: Judge, case: Case) -> bool:
    """Whether a case has the part that a judge needs."""
    if judge.NEEDS == "reference":
        return case.paired
    if judge.NEEDS == "references":
        return len(case.reference) > 1 and len(case.made) > 1
    return not judge.NEEDS or any(judge.NEEDS in clip.fields for clip in case.made)


def read(folder: Path, fields: Mapping[str, Mapping[str, object]] | None = None) -> list[Clip]:
    """The sounds in a folder and its subfolders, with the fields of its metadata.jsonl. Names have no suffix.

    Args:
        folder: the folder.
        fields: the fields of the sounds by their names, in place of metadata.jsonl.

    Raises:
        JudgeError: there is no sound, or a sound cannot be read.
    """
    paths = sorted(path for path in folder.glob("**/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise JudgeError(f"There is no sound in {folder}: a folder with files {', '.join(SUFFIXES)} is needed.")
    known = metadata(folder) if fields is None else fields
    return [read_clip(path, folder, known) for path in paths]


def read_clip(path: Path, folder: Path, fields: Mapping[str, Mapping[str, object]]) -> Clip:
    """A sound with its name in a folder and its fields. Raises JudgeError if it cannot be read."""
    try:
        audio, rate = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise JudgeError(f"{path} cannot be read: {error.error_string}.") from None
    name = str(path.relative_to(folder).with_suffix(""))
    return Clip(name, audio.mean(axis=1), rate, fields.get(name, {}))


def metadata(folder: Path) -> dict[str, dict[str, object]]:
    """The fields of the sounds by name, from metadata.jsonl in a folder of `benchmarks.sets`; empty without that
    file."""
    path = folder / "metadata.jsonl"
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {str(Path(line["file_name"]).with_suffix("")): line for line in lines}
