"""What the verbs that work through files have in common: finding them, going on where they were interrupted, figures.

A result that is there already is not made again if it says of itself that it was made by the same weights and settings
of the same file: in the comment of a WAV file, which is written last, under its name when it is whole.
"""

import dataclasses
import glob
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import tyro
from tqdm import tqdm

from archijax import cli
from archijax.audio import files, metrics
from archijax.errors import InputError
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pipeline.driver import Progress
from sample.output import Output, distinct

PIECE = 2**19  # samples that are measured at once, of long sounds
UNITS = {"SI-SDR": " dB", "log-spectral distance": " dB"}
# What does not change a result.
ELSEWHERE = ("sounds", "model", "config", "lora", "out", "batch_size")


@dataclass(frozen=True, kw_only=True)
class Making:
    """How frames are decoded, for the verbs that do; the steps are those of models that decode by diffusion."""

    num_steps: int = 50
    """Denoising steps."""
    sampler: Literal["ddim", "euler", "heun", "dpm++"] = "ddim"
    """What makes a step; dpm++ needs fewer of them, heun takes twice the time for each."""
    timestep_spacing: Literal["linear", "cosine", "karras", "exponential"] | None = None
    """Spacing of the timesteps; by default that of the model's diffusion method."""
    prompt: str = ""
    """What it should sound like, for a model that reads text."""
    guidance_scale: float | None = None
    """How strictly the prompt is followed, 1 for no guidance; by default 3 with text, else 1."""
    seed: int = 0
    """Root of the noise, which is the same for all files."""
    batch_size: int = 8
    """Parts of a sound made at once, at most."""

    @property
    def settings(self) -> SampleSettings:
        """As settings of sampling. Raises InputError for what makes no sense."""
        names = ("num_steps", "sampler", "timestep_spacing", "guidance_scale", "seed")
        return SampleSettings(**{name: getattr(self, name) for name in names})


class Material(NamedTuple):
    """What a result is made of.

    Attributes:
        rows: the sound or frames that go in first.
        gain: what the sound was multiplied by, and the result is divided by.
        length: samples of the result, or None for all that come out.
        reference: what the result should be [time, channels], or None.
    """

    rows: np.ndarray
    gain: float = 1.0
    length: int | None = None
    reference: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class OnFiles:
    """A verb that makes one result of each file. Subclasses have a `model`, and say what they make."""

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files, folders of them, or patterns such as 'songs/**/*.flac'."""
    out: Path
    """Folder for the files."""

    takes: ClassVar[Collection[str]] = files.SUFFIXES
    makes: ClassVar[str] = ".wav"

    @cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """The models, in the order in which they are used."""
        raise NotImplementedError

    @cached_property
    def parts(self) -> Any:
        """What does the work. Raises InputError for settings that make no sense."""
        raise NotImplementedError

    def read(self, path: Path) -> Material:
        """What goes in. Raises InputError for a file that will not do."""
        raise NotImplementedError

    def steps(self, material: Material) -> int:
        """How often `make` calls progress."""
        raise NotImplementedError

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        """What comes out, not yet cut, and as loud as the sounds of the training."""
        raise NotImplementedError

    def finish(self, material: Material, result: np.ndarray) -> np.ndarray:
        """What is written of it."""
        return result[: material.length] / material.gain

    def write(
        self, output: Output, target: Path, title: str, material: Material, result: np.ndarray, record: str
    ) -> None:
        """Writes the result, and in it the record."""
        output.write(target.stem, result, title, {"software": "archijax", "title": title, "comment": record})

    def record(self, path: Path) -> str:
        """The record in a result; raises anything if there is none."""
        return files.info(path).tags["comment"]

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        paths = sound_files(self.sounds, self.takes, self.out)
        targets = [self.out / f"{name}{self.makes}" for name in distinct(path.stem for path in paths)]
        for target in {path.resolve() for path in targets} & {path.resolve() for path in paths}:
            raise InputError(f"{target} would be written over, but it is to be read: let out be another folder.")
        pipelines, failed, measurements = self.pipelines, 0, []
        self.parts  # noqa: B018 - checks the settings
        output = Output(self.out, pipelines[-1].config.sample_rate)
        settings = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in ELSEWHERE
        }
        verb = digest(type(self).__name__, json.dumps(settings), *(pipeline.weights for pipeline in pipelines))
        for number, (path, target) in enumerate(zip(paths, targets, strict=True), 1):
            try:
                made_of = digest(verb, path)
                figures = self._finished(target, made_of)
                material = self.read(path) if figures is None else None
            except (InputError, OSError) as error:
                cli.say(str(error))
                failed += 1
                continue
            if material is None:
                cli.say(f"{target} is there, made of the same by the same: skipped.")
            else:
                with cli.bar(self.steps(material), f"{path.name} ({number} of {len(paths)})", "step") as bar:
                    result = self.finish(material, self.make(material, bar.update))
                figures = {} if material.reference is None else measured(result, material.reference)
                record = json.dumps({**settings, "figures": figures, "made_of": made_of}, allow_nan=False)
                self.write(output, target, path.stem, material, result, record)
            if figures:
                tqdm.write(f"    {_text(figures)}")
                measurements.append(figures)
        output.tell_clipped()
        if len(measurements) > 1:
            names = dict.fromkeys(name for each in measurements for name in each)
            mean = {name: float(np.mean([each[name] for each in measurements if name in each])) for name in names}
            tqdm.write(f"mean of {len(measurements)} sounds: {_text(mean)}")
        if failed:
            raise InputError(f"{failed} of {len(paths)} files could not be read.")

    def _finished(self, target: Path, made_of: str) -> dict[str, float] | None:
        """The figures of a result that is there already, or None."""
        try:
            record = json.loads(self.record(target))
            return record["figures"] if record["made_of"] == made_of else None
        except (InputError, OSError, ValueError, KeyError, TypeError):
            return None


def digest(*parts: str | Path) -> str:
    """A name for texts and the contents of files; others have other names."""
    whole = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                whole.update(hashlib.file_digest(file, "blake2b").digest())
        else:
            whole.update(part.encode() + b"\0")
    return whole.hexdigest()


def measured(estimate: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """How near an estimate [time, channels] comes to its reference; of long ones by the mean of pieces.

    A figure that is no number is left out: silence has no ratio of signal to distortion.
    """
    # What the longest window needs.
    extra = max(0, 2048 - len(reference))
    estimate, reference = (np.pad(each, ((0, extra), (0, 0))) if extra else each for each in (estimate, reference))
    # A last piece that would be too short belongs to the one before.
    edges = [*range(0, len(reference) - 2047, PIECE), len(reference)]
    pairs = [(estimate[None, a:b], reference[None, a:b]) for a, b in itertools.pairwise(edges)]
    mean = partial(np.average, weights=np.diff(edges))
    figures = {
        "SI-SDR": _si_sdr(pairs),
        "log-spectral distance": float(mean([metrics.paired_log_spectral_distance(*pair)[0] for pair in pairs])),
        "STFT distance": float(mean([metrics.multi_resolution_stft_distance(*pair)[0] for pair in pairs])),
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _si_sdr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """What `metrics.si_sdr` gives for all pieces (estimate, reference) of a sound as one, at the memory of a piece."""

    def total(value: Callable[[np.ndarray, np.ndarray], float]) -> np.float64:
        return np.float64(sum(value(*(each.ravel().astype(np.float64) for each in pair)) for pair in pairs))

    with np.errstate(divide="ignore", invalid="ignore"):
        energy = total(lambda e, r: r @ r)
        scale = total(lambda e, r: e @ r) / energy
        return float(10 * np.log10(scale**2 * energy / total(lambda e, r: np.sum(np.square(scale * r - e)))))


def sound_files(
    paths: tuple[Path, ...], suffixes: Collection[str] = files.SUFFIXES, out: Path | None = None
) -> list[Path]:
    """The files with these suffixes that paths name, folders with all below them; a file that is named is one.

    What lies in the folder `out`, inside a folder or pattern, is what the program has written: it is left out.

    Raises InputError for a path that names none, or without any.
    """
    if not paths:
        raise InputError("No file is named: give files, folders of them, or patterns in quotes.")
    own = None if out is None else out.resolve()
    matching: dict[Path, Any] = {}
    for path in paths:
        if path.is_file():
            some = [path]
        else:
            # Not Path.rglob, which leaves out linked folders.
            pattern = f"{glob.escape(str(path))}/**" if path.is_dir() else str(path)
            inside = map(Path, glob.glob(pattern, recursive=True))
            some = sorted(each for each in inside if each.suffix.lower() in suffixes and each.is_file())
            if path.resolve() != own:
                some = [each for each in some if own not in each.resolve().parents]
        if not some:
            what = "sound file" if suffixes is files.SUFFIXES else f"file of {', '.join(sorted(suffixes))}"
            raise InputError(f"There is no {what} {path}: give a file, a folder with some, or a pattern in quotes.")
        matching |= dict.fromkeys(some)
    return list(matching)


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}{UNITS.get(name, '')}" for name, value in figures.items())
