"""Reads and writes frames as .npz files. Frames are latents of autoencoders or mel spectrograms of vocoders.

    latent, or mel    float32 [frames, latent_channels], or [frames, mels, channels]
    kind              the kind of the model
    sample_rate       the sample rate of the sound, in Hz
    samples           the length of the sound
    gain              the factor that gave the sound the loudness of the training sounds
    weights           a hash of the model's weights
    record            the settings that made the file

Other programs can write such files. Only the array "latent" or "mel" is required.
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
    """Writes the frames `rows` of a sound to a file, together with the other values that this module lists."""
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
    """Returns a dict from names to the arrays and plain values in a file. The array of a .npy file gets the name "mel".

    Raises InputError if the file is not a .npz or .npy file.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"mel": content}
        with content:
            return {name: array.item() if array.ndim == 0 else array for name, array in content.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        empty = path.is_file() and not path.stat().st_size
        reason = "it has 0 bytes" if empty else "it is damaged, or of another format"
        raise InputError(f"{path} cannot be read as a .npz or .npy file: {reason}.") from error


def read(path: Path, pipeline: Pipeline) -> Material:
    """Returns the frames in a file as Material for the model. Raises InputError if the file is for another kind of
    model, or if a size does not fit the model."""
    content, name, kind = contents(path), pipeline.model.frames, kind_of(pipeline.config)
    if name not in content or content.get("kind", kind) != kind:
        names = ", ".join(content) or "nothing"
        fact = f"is of a model of kind {content['kind']!r}" if "kind" in content else f"has {names}"
        raise InputError(f"{path} {fact}: this model needs a {name}, of its kind {kind!r}.")
    rows, rate = np.asarray(content[name]), content.get("sample_rate", pipeline.config.sample_rate)
    if rate != pipeline.config.sample_rate:
        raise InputError(f"{path} is of sound of {rate} Hz, but the model needs {pipeline.config.sample_rate} Hz.")
    sound = jax.ShapeDtypeStruct((1, pipeline.config.length, pipeline.config.channels), np.float32)
    _, _, *frame = jax.eval_shape(pipeline.model.encode, pipeline.variables, sound)[0].shape
    if name == "mel":
        rows = rows[..., None] if rows.ndim == 2 else rows
        # The number of channels does not matter.
        needed, fits = f"[frames, {frame[0]}, channels]", rows.ndim == 3 and rows.shape[1] == frame[0]
    else:
        needed, fits = f"[frames, {', '.join(map(str, frame))}]", list(rows.shape[1:]) == frame
    if not fits or not rows.size or rows.dtype.kind != "f":
        raise InputError(f"{path} has a {name} of {rows.dtype} {list(rows.shape)}: numbers {needed} are needed.")
    if not np.isfinite(rows).all():
        raise InputError(f"{path} has values that are not finite (NaN or infinity).")
    if name == "latent" and content.get("weights", pipeline.weights) != pipeline.weights:
        cli.say(f"{path} was encoded with other weights than these: their latents may differ.")
    length = content.get("samples", len(rows) * pipeline.model.downsample_factor)
    return Material(np.float32(rows), np.float32(content.get("gain", 1)), length)
