"""Files of frames: latents of autoencoders, mel spectrograms of vocoders, as .npz.

    latent, or mel    float32 [frames, latent_channels], or [frames, mels, channels]
    kind              of the model
    sample_rate       of the sound in Hz
    samples           length of the sound
    gain              what the sound was multiplied by, to be as loud as those that the model was trained on
    weights           a name for the model's weights
    record            how the file was made

Others may write such files: the array alone is enough.
"""

import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from archijax import cli
from archijax.atomic import replacing
from archijax.configs import kind_of
from archijax.errors import InputError
from archijax.pipeline import Pipeline
from sample.work import Material


def save(path: Path, pipeline: Pipeline, material: Material, rows: np.ndarray, record: str) -> None:
    """Writes the frames of a sound."""
    about = {
        "kind": kind_of(pipeline.config),
        "sample_rate": pipeline.config.sample_rate,
        "samples": len(material.rows),
        "gain": material.gain,
        "weights": pipeline.weights,
        "record": record,
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **{pipeline.model.frames: rows}, **about)


def contents(path: Path) -> dict[str, Any]:
    """What is in a file: arrays, and the rest as plain values; of a .npy file its array is "mel".

    Raises InputError if it is not such a file.
    """
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return {"mel": held}
        with held:
            return {name: array.item() if array.ndim == 0 else array for name, array in held.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        said = "it has 0 bytes" if path.is_file() and not path.stat().st_size else "it is damaged, or of another format"
        raise InputError(f"{path} cannot be read as a .npz or .npy file: {said}.") from error


def read(path: Path, pipeline: Pipeline) -> Material:
    """The frames that a file holds for a model. Raises InputError if it is of another model's kind or sizes."""
    held, name, kind = contents(path), pipeline.model.frames, kind_of(pipeline.config)
    if name not in held or held.get("kind", kind) != kind:
        what = f"is of a model of kind {held['kind']!r}" if "kind" in held else f"holds {', '.join(held) or 'nothing'}"
        raise InputError(f"{path} {what}: this model needs a {name}, of its kind {kind!r}.")
    rows, rate = np.asarray(held[name]), held.get("sample_rate", pipeline.config.sample_rate)
    if rate != pipeline.config.sample_rate:
        raise InputError(f"{path} is of sound of {rate} Hz, but the model's is of {pipeline.config.sample_rate} Hz.")
    sound = jax.ShapeDtypeStruct((1, pipeline.config.length, pipeline.config.channels), np.float32)
    _, _, *frame = jax.eval_shape(pipeline.model.encode, pipeline.variables, sound)[0].shape
    if name == "mel":
        rows = rows[..., None] if rows.ndim == 2 else rows
        # The channels may be any number.
        needed, fits = f"[frames, {frame[0]}, channels]", rows.ndim == 3 and rows.shape[1] == frame[0]
    else:
        needed, fits = f"[frames, {', '.join(map(str, frame))}]", list(rows.shape[1:]) == frame
    if not fits or not rows.size or rows.dtype.kind != "f":
        raise InputError(f"{path} holds a {name} of {rows.dtype} {list(rows.shape)}: numbers {needed} are needed.")
    if not np.isfinite(rows).all():
        raise InputError(f"{path} holds values that are not finite (NaN or infinity).")
    if name == "latent" and held.get("weights", pipeline.weights) != pipeline.weights:
        cli.say(f"{path} was encoded by other weights than these: their latents may differ.")
    length = held.get("samples", len(rows) * pipeline.model.downsample_factor)
    return Material(np.float32(rows), np.float32(held.get("gain", 1)), length)
