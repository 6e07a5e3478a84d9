"""Reads held-out sounds in the format of a model, and measures how far the results of systems are from them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio import files, metrics
from archijax.audio.resample import resample
from archijax.configs import example_batch
from archijax.pipeline import Pipeline

BATCH = 8
Rows = dict[str, dict[str, float]]
System = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """What is judged: a trained model, the folder of its run, its training sounds and its held-out sounds."""

    pipeline: Pipeline
    run: Path
    train: list[Path]
    heldout: list[Path]


def clips(pipeline: Pipeline, paths: Sequence[Path], limit: int | None = None) -> Iterator[np.ndarray]:
    """Yields each file as successive crops [n, length, c], with the loudness of the training sounds.

    An incomplete crop at the end of a file is dropped. With `limit`, each file has that number of crops from its
    beginning, and shorter files are skipped, so that all files share one compilation.
    """
    config = pipeline.config
    for path in paths:
        sound = files.read(path, sample_rate=config.sample_rate, channels=config.channels)
        sound = sound * pipeline.gain(sound)
        count = len(sound) // config.length
        if count >= (limit or 1):
            count = min(count, limit or count)
            yield sound[: count * config.length].reshape(count, config.length, -1)


def judged(
    pipeline: Pipeline,
    tracks: Iterator[np.ndarray],
    systems: dict[str, System],
    whole: dict[str, System] | None = None,
) -> Rows:
    """Returns the metrics of each system (a function from crops to crops), as means over tracks. Functions in `systems`
    get batches of crops [n, length, c]. Functions in `whole` get all crops of a track at once."""
    whole = whole or {}
    # Windows of 30 to 130 ms at every sample rate.
    n_fft = max(512, 2 ** round(math.log2(0.048 * pipeline.config.sample_rate)))
    values: dict[str, dict[str, list[float]]] = {name: {} for name in {**systems, **whole}}
    for crops in tracks:
        reference = crops.reshape(1, -1, crops.shape[2])
        for name in values:
            if name in whole:
                made = np.asarray(whole[name](crops))
            else:
                padded = np.pad(crops, ((0, -len(crops) % BATCH), (0, 0), (0, 0)))
                parts = [np.asarray(systems[name](part)) for part in np.split(padded, len(padded) // BATCH)]
                made = np.concatenate(parts)[: len(crops)]
            made = made.reshape(reference.shape)
            for metric, value in {
                "SI-SDR (dB)": metrics.si_sdr(made, reference),
                "log-spectral distance (dB)": metrics.paired_log_spectral_distance(made, reference, n_fft=n_fft),
                "STFT distance": metrics.multi_resolution_stft_distance(made, reference),
            }.items():
                values[name].setdefault(metric, []).append(float(value[0]))
    return {name: {metric: float(np.mean(found)) for metric, found in row.items()} for name, row in values.items()}


def resampled(rate: int, kept: int) -> System:
    """Makes a system that resamples the crops of a track to the rate ``kept`` (Hz) and back, by sinc interpolation."""

    def system(crops: np.ndarray) -> jax.Array:
        sound = jnp.reshape(crops, (1, -1, crops.shape[2]))
        again = resample(resample(sound, rate, kept), kept, rate)[:, : sound.shape[1]]
        return jnp.pad(again, ((0, 0), (0, sound.shape[1] - again.shape[1]), (0, 0))).reshape(crops.shape)

    return system


def untrained(pipeline: Pipeline) -> dict:
    """Returns random variables for the pipeline's model, as before training."""
    return pipeline.model.init(jax.random.key(0), example_batch(pipeline.config))


def lower(rows: Rows, metric: str, than: str, factor: float = 1.0) -> dict[str, bool]:
    """Returns the promise that the trained system's `metric` is below `factor` times that of the system `than`."""
    told = "" if factor == 1 else f" {1 - factor:.0%}"
    return {f"{metric}{told} below '{than}'": rows["trained"][metric] < factor * rows[than][metric]}


def text(rows: Rows) -> str:
    """Returns the rows as lines of text."""
    names = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    width = max(map(len, rows))
    cells = {row: [f"{values[n]:.2f}" if n in values else "" for n in names] for row, values in rows.items()}
    return "\n".join(
        [" " * width + "".join(f"{name:>30}" for name in names)]
        + [f"{row:<{width}}" + "".join(f"{cell:>30}" for cell in line) for row, line in cells.items()]
    )
