"""What the verbs that work through files have in common: finding them, going on where they were interrupted, figures.

A result that is there already is not made again if it says of itself that it was made by the same weights and settings
of the same file: in the comment of a WAV file, which is written last, under its name when it is whole.
"""

import dataclasses
import glob
import hashlib
import itertools
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import tyro
from tqdm import tqdm

from archijax import cli
from archijax.audio import files, metrics
from archijax.errors import InputError
from sample.model import Loaded
from sample.output import Output, distinct
from sample.settings import Settings, require

PIECE = 2**19  # samples that are measured at once, of long sounds
UNITS = {"SI-SDR": " dB", "log-spectral distance": " dB"}
# What does not change a result.
ELSEWHERE = ("sounds", "model", "out", "batch_size")


@dataclass(frozen=True, kw_only=True)
class Making:
    """How sound is made of what a model hears, for the verbs that do; the rest is for models that diffuse alone."""

    num_steps: int = 50
    """Denoising steps."""
    sampler: Literal["ddim", "euler", "heun", "dpm++"] = "ddim"
    """What makes a step; dpm++ needs fewer of them, heun takes twice the time for each."""
    timestep_spacing: Literal["linear", "cosine", "karras"] | None = None
    """TimestepSpacing of the noise levels; by default that of the model's diffusion method."""
    prompt: str = ""
    """What it should sound like, for a model that reads text."""
    guidance_scale: float | None = None
    """How strictly the prompt is followed, 1 for no guidance; by default 3 with text, else 1."""
    seed: int = 0
    """Root of the noise, which is the same for all files."""
    batch_size: int = 8
    """Parts of a sound made at once, at most."""

    @property
    def settings(self) -> Settings:
        """As settings of a generation. Raises InputError for what makes no sense."""
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        names = ("num_steps", "sampler", "timestep_spacing", "guidance_scale", "seed")
        return Settings(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Heard:
    """What a result is made of.

    Fields:
        given: rows that go in first.
        gain: what the sound was multiplied by, and the result is divided by.
        length: samples of the result, or None for all that are made.
        reference: what the result should be [time, channels], or None.
    """

    given: np.ndarray
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
    def loaded(self) -> tuple[Loaded, ...]:
        """The models, in the order in which they are used."""
        raise NotImplementedError

    @cached_property
    def parts(self) -> Any:
        """What does the work. Raises InputError for settings that make no sense."""
        raise NotImplementedError

    def read(self, path: Path) -> Heard:
        """What goes in. Raises InputError for a file that will not do."""
        raise NotImplementedError

    def steps(self, heard: Heard) -> int:
        """How often `make` calls progress."""
        raise NotImplementedError

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        """What is made, not yet cut, and as loud as the sounds of the training."""
        raise NotImplementedError

    def finish(self, heard: Heard, made: np.ndarray) -> np.ndarray:
        """What is written, of what is made."""
        return made[: heard.length] / heard.gain

    def write(self, output: Output, target: Path, title: str, heard: Heard, result: np.ndarray, record: str) -> None:
        """Writes the result, and in it the record."""
        output.write(target.stem, result, title, {"software": "archijax", "title": title, "comment": record})

    def record(self, path: Path) -> str:
        """The record in a result; raises anything if there is none."""
        return files.info(path).tags["comment"]

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        found = sound_files(self.sounds, self.takes)
        targets = [self.out / f"{name}{self.makes}" for name in distinct(path.stem for path in found)]
        for target in {path.resolve() for path in targets} & {path.resolve() for path in found}:
            raise InputError(f"{target} would be written over, but it is to be read: let out be another folder.")
        models, failed, measurements = self.loaded, 0, []
        self.parts  # noqa: B018 - checks the settings
        output = Output(self.out, models[-1].config.sample_rate)
        settings = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in ELSEWHERE
        }
        verb = digest(type(self).__name__, json.dumps(settings), *(model.weights for model in models))
        for number, (path, target) in enumerate(zip(found, targets, strict=True), 1):
            try:
                made_of = digest(verb, path)
                figures = self._finished(target, made_of)
                heard = self.read(path) if figures is None else None
            except (InputError, OSError) as error:
                cli.say(str(error))
                failed += 1
                continue
            if heard is None:
                cli.say(f"{target} is there, made of the same by the same: skipped.")
            else:
                with cli.bar(self.steps(heard), f"{path.name} ({number} of {len(found)})", "step") as bar:
                    made = self.make(heard, bar.update)
                result = self.finish(heard, made)
                figures = {} if heard.reference is None else measured(result, heard.reference)
                record = json.dumps({**settings, "figures": figures, "made_of": made_of})
                self.write(output, target, path.stem, heard, result, record)
            if figures:
                tqdm.write(f"    {_text(figures)}")
                measurements.append(figures)
        output.tell_clipped()
        if len(measurements) > 1:
            mean = {name: float(np.mean([each[name] for each in measurements])) for name in measurements[0]}
            tqdm.write(f"mean of {len(measurements)} sounds: {_text(mean)}")
        if failed:
            raise InputError(f"{failed} of {len(found)} files could not be read.")

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


def measured(made: np.ndarray, sound: np.ndarray) -> dict[str, float]:
    """How near a sound [time, channels] comes to its reference; of long ones by the mean of pieces."""
    # What the longest window needs.
    extra = max(0, 2048 - len(sound))
    made, sound = (np.pad(each, ((0, extra), (0, 0))) if extra else each for each in (made, sound))
    # A last piece that would be too short belongs to the one before.
    edges = [*range(0, len(sound) - 2047, PIECE), len(sound)]
    pairs = [(made[None, a:b], sound[None, a:b]) for a, b in itertools.pairwise(edges)]
    mean = partial(np.average, weights=np.diff(edges))
    return {
        "SI-SDR": _si_sdr(pairs),
        "log-spectral distance": float(mean([metrics.paired_log_spectral_distance(*pair)[0] for pair in pairs])),
        "STFT distance": float(mean([metrics.multi_resolution_stft_distance(*pair)[0] for pair in pairs])),
    }


def _si_sdr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """What `metrics.si_sdr` gives for all pieces (estimate, reference) of a sound as one, at the memory of a piece."""

    def total(value: Callable[[np.ndarray, np.ndarray], float]) -> np.float64:
        return np.float64(sum(value(*(each.ravel().astype(np.float64) for each in pair)) for pair in pairs))

    with np.errstate(divide="ignore", invalid="ignore"):
        energy = total(lambda e, r: r @ r)
        scale = total(lambda e, r: e @ r) / energy
        return float(10 * np.log10(scale**2 * energy / total(lambda e, r: np.sum(np.square(scale * r - e)))))


def sound_files(places: tuple[Path, ...], suffixes: Collection[str] = files.SUFFIXES) -> list[Path]:
    """The files with these suffixes that paths name, folders with all below them; a file that is named is one.

    Raises InputError for a path that names none, or without any.
    """
    if not places:
        raise InputError("No file is named: give files, folders of them, or patterns in quotes.")
    found: dict[Path, Any] = {}
    for place in places:
        if place.is_file():
            some = [place]
        else:
            # Not Path.rglob, which leaves out linked folders.
            pattern = f"{glob.escape(str(place))}/**" if place.is_dir() else str(place)
            inside = map(Path, glob.glob(pattern, recursive=True))
            some = sorted(path for path in inside if path.is_file() and path.suffix.lower() in suffixes)
        if not some:
            what = "sound file" if suffixes is files.SUFFIXES else f"file of {', '.join(sorted(suffixes))}"
            raise InputError(f"There is no {what} {place}: give a file, a folder with some, or a pattern in quotes.")
        found |= dict.fromkeys(some)
    return list(found)


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}{UNITS.get(name, '')}" for name, value in figures.items())
