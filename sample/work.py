"""Contains the common parts of verbs that process files: the verbs find files, continue after an interruption, and
measure results.

A result is not made again if the record of the existing WAV file shows the same weights, settings and source file. The
record is stored as the comment of the WAV file. A WAV file gets its final name when all samples are written.
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

PIECE = 2**19  # samples per piece when long sounds are measured
UNITS = {"SI-SDR": " dB", "log-spectral distance": " dB"}
# The options that do not change a result.
ELSEWHERE = ("sounds", "model", "config", "lora", "out", "batch_size")


@dataclass(frozen=True, kw_only=True)
class Making:
    """Defines the options of verbs that decode frames. The options for sampling apply only to models that decode by
    diffusion."""

    num_steps: int = 50
    """The number of denoising steps."""
    sampler: Literal["ddim", "euler", "heun", "dpm++"] = "ddim"
    """The method of each denoising step. dpm++ needs fewer steps than the other methods, and a step of heun takes twice
    the time."""
    timestep_spacing: Literal["linear", "cosine", "karras", "exponential"] | None = None
    """The spacing of the timesteps. The default depends on the diffusion method of the model."""
    prompt: str = ""
    """The prompt, for a model that reads text."""
    guidance_scale: float | None = None
    """How strictly a sound follows the prompt; 1 means no guidance. None: the default of the model, or 3 for a model
    that was trained for guidance and has no default."""
    seed: int = 0
    """The seed of the noise, which is the same for all files."""
    batch_size: int = 8
    """The largest number of parts of a sound in a batch."""

    @property
    def settings(self) -> SampleSettings:
        """Returns the settings of sampling. Raises InputError if a setting is out of range."""
        names = ("num_steps", "sampler", "timestep_spacing", "guidance_scale", "seed")
        return SampleSettings(**{name: getattr(self, name) for name in names})


class Material(NamedTuple):
    """Holds the input of one result.

    Attributes:
        rows: the array to process: a sound [time, channels], or frames [frames, ...].
        gain: the factor by which the sound was multiplied. The result is divided by this factor.
        length: the number of samples of the result to keep; None: all samples.
        reference: the sound [time, channels] with which the result is compared; None: no comparison.
    """

    rows: np.ndarray
    gain: float = 1.0
    length: int | None = None
    reference: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class OnFiles:
    """Makes one result from each file. A subclass has a field `model`, and methods that make the result."""

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files, folders of sound files, or patterns such as 'songs/**/*.flac'."""
    out: Path
    """The folder for the written files."""

    takes: ClassVar[Collection[str]] = files.SUFFIXES
    makes: ClassVar[str] = ".wav"

    @cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Returns the loaded models, in the order in which the verb uses them."""
        raise NotImplementedError

    @cached_property
    def parts(self) -> Any:
        """Returns the functions that make a result. Raises InputError if a setting is out of range."""
        raise NotImplementedError

    def read(self, path: Path) -> Material:
        """Reads the input from a file. Raises InputError if the file does not fit the model."""
        raise NotImplementedError

    def steps(self, material: Material) -> int:
        """Returns the number of steps that `make` reports to the progress bar."""
        raise NotImplementedError

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        """Returns the result with the loudness of the training sounds, before `finish` cuts it."""
        raise NotImplementedError

    def finish(self, material: Material, result: np.ndarray) -> np.ndarray:
        """Gives a result of `make` its final length and loudness."""
        return result[: material.length] / material.gain

    def write(
        self, output: Output, target: Path, title: str, material: Material, result: np.ndarray, record: str
    ) -> None:
        """Writes a finished result and its record to the file `target`."""
        output.write(target.stem, result, title, {"software": "archijax", "title": title, "comment": record})

    def record(self, path: Path) -> str:
        """Reads the record in an existing result. Raises an exception if there is no record."""
        return files.info(path).tags["comment"]

    def run(self) -> None:
        """Makes and writes the results. Raises InputError for wrong input, and OSError if writing fails."""
        paths = sound_files(self.sounds, self.takes, self.out)
        targets = [self.out / f"{name}{self.makes}" for name in distinct(path.stem for path in paths)]
        for target in {path.resolve() for path in targets} & {path.resolve() for path in paths}:
            raise InputError(f"{target} would be overwritten, but it is an input: use another folder for out.")
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
                cli.say(f"{target} exists, made with the same settings from the same file: skipped.")
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
        """Returns the distances in the record of an existing result, or None if the record is missing or has another
        `made_of`."""
        try:
            record = json.loads(self.record(target))
            return record["figures"] if record["made_of"] == made_of else None
        except (InputError, OSError, ValueError, KeyError, TypeError):
            return None


def digest(*parts: str | Path) -> str:
    """Returns a hash of all parts: texts, and the contents of files."""
    state = hashlib.blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                state.update(hashlib.file_digest(file, "blake2b").digest())
        else:
            state.update(part.encode() + b"\0")
    return state.hexdigest()


def measured(estimate: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Returns a dict of the distances between an estimate [time, channels] and a reference. Long sounds are measured in
    pieces.

    Values that are not finite, such as the SI-SDR of silence, are left out.
    """
    # The longest window needs this length.
    extra = max(0, 2048 - len(reference))
    estimate, reference = (np.pad(each, ((0, extra), (0, 0))) if extra else each for each in (estimate, reference))
    # A last piece that is too short is joined to the previous piece.
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
    """Computes `metrics.si_sdr` of a whole sound from pieces (estimate, reference). Only one piece at a time is
    processed."""

    def total(value: Callable[[np.ndarray, np.ndarray], float]) -> np.float64:
        return np.float64(sum(value(*(each.ravel().astype(np.float64) for each in pair)) for pair in pairs))

    with np.errstate(divide="ignore", invalid="ignore"):
        energy = total(lambda e, r: r @ r)
        scale = total(lambda e, r: e @ r) / energy
        return float(10 * np.log10(scale**2 * energy / total(lambda e, r: np.sum(np.square(scale * r - e)))))


def sound_files(
    paths: tuple[Path, ...], suffixes: Collection[str] = files.SUFFIXES, out: Path | None = None
) -> list[Path]:
    """Returns a list of the files that the paths select. A path is a file, or a folder or pattern that selects files
    with one of the suffixes.

    Files in the folder `out` are selected only if their own path or `out` itself is in ``paths``.

    Raises:
        InputError: there are no paths, or a path selects no file.
    """
    if not paths:
        raise InputError("There is no input: name files, folders of them, or patterns in quotes.")
    own = None if out is None else out.resolve()
    matching: dict[Path, Any] = {}
    for path in paths:
        if path.is_file():
            matches = [path]
        else:
            # Path.rglob would leave out linked folders.
            pattern = f"{glob.escape(str(path))}/**" if path.is_dir() else str(path)
            inside = map(Path, glob.glob(pattern, recursive=True))
            matches = sorted(each for each in inside if each.suffix.lower() in suffixes and each.is_file())
            if path.resolve() != own:
                matches = [each for each in matches if own not in each.resolve().parents]
        if not matches:
            kind = "sound file" if suffixes is files.SUFFIXES else f"file of {', '.join(sorted(suffixes))}"
            raise InputError(f"There is no {kind} {path}: name a file, a folder with some, or a pattern in quotes.")
        matching |= dict.fromkeys(matches)
    return list(matching)


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}{UNITS.get(name, '')}" for name, value in figures.items())
