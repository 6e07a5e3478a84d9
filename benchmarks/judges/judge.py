"""The interface of judges: what they get and what they return."""

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
    """The input is wrong. The message says in one sentence what is wrong and what would be right."""


@dataclass(frozen=True)
class Clip:
    """A sound: name, audio [time] in [-1, 1] with averaged channels, sample rate in Hz, and known facts (`fields`)."""

    name: str
    audio: np.ndarray
    rate: int
    fields: Mapping[str, object] = field(default_factory=dict)

    def at(self, rate: int) -> np.ndarray:
        """Returns the audio, resampled to another sample rate in Hz, as float32."""
        return soxr.resample(self.audio, self.rate, rate).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """Sounds to judge, and reference sounds.

    With `paired`, the reference of each made clip is at the same position in the list. Otherwise, the two lists are
    compared as sets.
    """

    made: Sequence[Clip]
    reference: Sequence[Clip] = ()
    paired: bool = False

    @cached_property
    def pairs(self) -> list[tuple[Clip, Clip]]:
        """Pairs (made clip, its reference); empty unless the case is paired."""
        return list(zip(self.made, self.reference, strict=True)) if self.paired else []

    def asked(self, name: str) -> np.ndarray:
        """Returns the field `name` of each made clip as a float, or nan where the field is not known."""
        return np.array([float(clip.fields.get(name, "nan")) for clip in self.made])

    def wanted(self, name: str, heard: Callable[[Clip], float]) -> np.ndarray:
        """Returns the field `name` of each made clip, else `heard(reference)` for the clip's reference, else nan."""
        asked = self.asked(name)
        for i in np.flatnonzero(np.isnan(asked)) if self.paired else ():
            asked[i] = heard(self.reference[i])
        return asked


@dataclass(frozen=True)
class Column:
    """A judge's result: one value per made clip [n], or one value for all clips [1], and whether higher is better."""

    values: np.ndarray
    higher: bool


class Judge(Protocol):
    """A module of `benchmarks.judges.panel`. A new file in that folder adds a judge."""

    NEEDS: str
    """What a case must have: "reference" (one per clip), "references" (a set), the name of a field, or "" (nothing)."""

    def judge(self, case: Case) -> dict[str, Column]:
        """Returns columns by their names, which contain the unit. The value is nan for a clip that cannot be judged."""


def panel() -> dict[str, Judge]:
    """Returns all judges, by the names of their modules."""
    package = importlib.import_module("benchmarks.judges.panel")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return {name: importlib.import_module(f"benchmarks.judges.panel.{name}") for name in names}


def suits(judge: Judge, case: Case) -> bool:
    """Returns whether a case has what a judge needs."""
    if judge.NEEDS == "reference":
        return case.paired
    if judge.NEEDS == "references":
        return len(case.reference) > 1 and len(case.made) > 1
    return not judge.NEEDS or any(judge.NEEDS in clip.fields for clip in case.made)


def read(folder: Path, fields: Mapping[str, Mapping[str, object]] | None = None) -> list[Clip]:
    """Reads the sounds in a folder and its subfolders, with the fields from its metadata.jsonl. Names have no suffix.

    Args:
        folder: the folder that contains the sounds.
        fields: the fields of each sound, by the sound's name, in place of metadata.jsonl.

    Raises:
        JudgeError: there is no sound, or a sound cannot be read.
    """
    paths = sorted(path for path in folder.glob("**/*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise JudgeError(f"There is no sound in {folder}: a folder with files {', '.join(SUFFIXES)} is needed.")
    known = metadata(folder) if fields is None else fields
    return [read_clip(path, folder, known) for path in paths]


def read_clip(path: Path, folder: Path, fields: Mapping[str, Mapping[str, object]]) -> Clip:
    """Reads a sound, with its name relative to the folder and its fields. Raises JudgeError if it cannot be read."""
    try:
        audio, rate = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise JudgeError(f"{path} cannot be read: {error.error_string}.") from None
    name = str(path.relative_to(folder).with_suffix(""))
    return Clip(name, audio.mean(axis=1), rate, fields.get(name, {}))


def metadata(folder: Path) -> dict[str, dict[str, object]]:
    """Reads the fields of each sound, by the sound's name, from metadata.jsonl in a folder; {} without this file."""
    path = folder / "metadata.jsonl"
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {str(Path(line["file_name"]).with_suffix("")): line for line in lines}
