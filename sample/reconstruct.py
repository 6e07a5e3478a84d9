"""The verb reconstruct: sounds encoded and decoded, or made again of what a model hears, and how near they come."""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from archijax import cli, metrics
from archijax.audio import files
from archijax.errors import InputError
from sample.model import Loaded, load
from sample.output import Output
from sample.settings import require

KINDS = ("autoencoder", "magnitude_autoencoder", "upsampler", "vocoder", "diffusion_autoencoder")
OVERLAP = 8  # parts of a long sound overlap by an eighth of themselves


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """Encodes and decodes sounds, and prints how near what is decoded comes to each of them.

    The results have the model's sample rate and channels, and the loudness of the files. Long sounds are coded in
    parts as long as those that the model was trained on.
    """

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files, folders of them, or patterns such as 'songs/**/*.flac'."""
    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""
    out: Path
    """Folder for the files."""
    batch_size: int = 8
    """Parts coded at once, at most."""

    def run(self) -> None:
        """Makes and writes the reconstructions. Raises InputError and OSError."""
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        found = sound_files(self.sounds)
        loaded = load(self.model, KINDS)
        output = Output(self.out, loaded.config.sample_rate)
        code, names, figures, failed = coder(loaded, self.batch_size), _names(found), [], 0
        with cli.bar(len(found), "reconstructing", "file") as bar:
            for path, name in zip(found, names, strict=True):
                try:
                    sound = files.read(path, sample_rate=output.sample_rate, channels=loaded.config.channels)
                except InputError as error:
                    cli.say(str(error))
                    failed += 1
                    continue
                made = code(sound)
                output.write(name, made, path.stem, {"software": "archijax", "title": path.stem})
                figures.append(measured(made, sound))
                tqdm.write(f"    {_text(figures[-1])}")
                bar.update()
        output.tell_clipped()
        if len(figures) > 1:
            mean = {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}
            tqdm.write(f"mean of {len(figures)} sounds: {_text(mean)}")
        if failed:
            raise InputError(f"{failed} of {len(found)} files could not be read as sound.")


def coder(loaded: Loaded, batch_size: int = 8) -> Callable[[np.ndarray], np.ndarray]:
    """A function that encodes and decodes a sound [time, channels] of any length at the model's rate and channels.

    It works by parts of the model's length, which fade into each other, `batch_size` of them at once.
    """
    length = loaded.config.length
    hop = length - length // OVERLAP
    # Above zero at both ends, for what only one part covers.
    ramp = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)) / (length - hop + 1)
    weight = np.minimum(ramp, 1)[:, None].astype(np.float32)
    reconstruct = jax.jit(loaded.model.reconstruct)

    def code(sound: np.ndarray) -> np.ndarray:
        level = loaded.gain(sound)
        count = 1 + max(0, -(-(len(sound) - length) // hop))
        padded = np.pad(sound * level, ((0, (count - 1) * hop + length - len(sound)), (0, 0)))
        made, total = np.zeros_like(padded), np.zeros((len(padded), 1), np.float32)
        for first in range(0, count, batch_size):
            starts = np.arange(first, min(first + batch_size, count)) * hop
            # One shape for all, so that one compilation serves them.
            parts = np.zeros((batch_size, length, sound.shape[1]), np.float32)
            parts[: len(starts)] = [padded[start : start + length] for start in starts]
            for start, part in zip(starts, np.asarray(reconstruct(loaded.variables, parts)), strict=False):
                made[start : start + length] += weight * part
                total[start : start + length] += weight
        return (made / total)[: len(sound)] / level

    return code


def measured(made: np.ndarray, sound: np.ndarray) -> dict[str, float]:
    """How near a reconstruction [time, channels] comes to its sound."""
    # What the longest window needs.
    extra = max(0, 2048 - len(sound))
    pair = [np.pad(each, ((0, extra), (0, 0)))[None] for each in (made, sound)]
    return {
        "SI-SDR": float(metrics.si_sdr(*pair)[0]),
        "log-spectral distance": float(metrics.paired_log_spectral_distance(*pair)[0]),
        "STFT distance": float(metrics.multi_resolution_stft_distance(*pair)[0]),
    }


def sound_files(places: tuple[Path, ...]) -> list[Path]:
    """The sound files that paths name, folders with all below them. Raises InputError for one that names none."""
    found: dict[Path, Any] = {}
    for place in places:
        if place.is_file():
            some = [place]
        else:
            inside = place.rglob("*") if place.is_dir() else map(Path, glob.glob(str(place), recursive=True))
            some = sorted(path for path in inside if path.is_file() and path.suffix.lower() in files.SUFFIXES)
        if not some:
            raise InputError(
                f"There is no sound file {place}: give a file, a folder with some, or a pattern in quotes."
            )
        found |= dict.fromkeys(some)
    return list(found)


def _names(paths: list[Path]) -> list[str]:
    """The paths' stems, numbered where two are alike."""
    names: list[str] = []
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names


def _text(figures: dict[str, float]) -> str:
    units = {"SI-SDR": " dB", "log-spectral distance": " dB"}
    return ", ".join(f"{name} {value:.2f}{units.get(name, '')}" for name, value in figures.items())
