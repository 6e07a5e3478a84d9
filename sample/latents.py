"""Files of what models hear of sounds: latents of autoencoders, mel spectrograms of vocoders, as .npz.

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

import numpy as np

from archijax import cli
from archijax.atomic import replacing
from archijax.configs import to_dict
from archijax.errors import InputError
from archijax.models import DiffusionVocoder
from sample.coding import samples_per_frame
from sample.model import Loaded
from sample.work import Heard


def save(path: Path, loaded: Loaded, heard: Heard, rows: np.ndarray, record: str) -> None:
    """Writes what a model heard of a sound."""
    about = {
        "kind": to_dict(loaded.config)["kind"],
        "sample_rate": loaded.config.sample_rate,
        "samples": len(heard.given),
        "gain": heard.gain,
        "weights": loaded.weights,
        "record": record,
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **{_name(loaded): rows}, **about)


def contents(path: Path) -> dict[str, Any]:
    """What is in a file: arrays, and the rest as plain values; of a .npy file its array is "mel".

    Raises InputError if it is not such a file.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"mel": found}
        with found:
            return {name: array.item() if array.ndim == 0 else array for name, array in found.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        said = "it has 0 bytes" if path.is_file() and not path.stat().st_size else "it is damaged, or of another format"
        raise InputError(f"{path} cannot be read as a .npz or .npy file: {said}.") from error


def read(path: Path, loaded: Loaded) -> Heard:
    """What a file holds for a model to make sound of. Raises InputError if it is of another model's kind or sizes."""
    found, name, kind = contents(path), _name(loaded), to_dict(loaded.config)["kind"]
    if name not in found or found.get("kind", kind) != kind:
        what = (
            f"is of a model of kind {found['kind']!r}" if "kind" in found else f"holds {', '.join(found) or 'nothing'}"
        )
        raise InputError(f"{path} {what}: this model needs a {name}, of its kind {kind!r}.")
    rows, rate = np.asarray(found[name]), found.get("sample_rate", loaded.config.sample_rate)
    if rate != loaded.config.sample_rate:
        raise InputError(f"{path} is of sound of {rate} Hz, but the model's is of {loaded.config.sample_rate} Hz.")
    if name == "mel":
        rows = rows[..., None] if rows.ndim == 2 else rows
        wanted, fits = f"[frames, {loaded.model.mel.n_mel_channels}, channels]", rows.ndim == 3
        fits = fits and rows.shape[1] == loaded.model.mel.n_mel_channels
    else:
        wanted = f"[frames, {loaded.model.latent_channels}]"
        fits = rows.ndim == 2 and rows.shape[1] == loaded.model.latent_channels
    if not fits or not rows.size or rows.dtype.kind != "f":
        raise InputError(f"{path} holds a {name} of {rows.dtype} {list(rows.shape)}: numbers {wanted} are needed.")
    if not np.isfinite(rows).all():
        raise InputError(f"{path} holds values that are not finite (NaN or infinity).")
    if name == "latent" and found.get("weights", loaded.weights) != loaded.weights:
        cli.say(f"{path} was encoded by other weights than these: what they hear of a sound may differ.")
    length = found.get("samples", len(rows) * samples_per_frame(loaded.model))
    return Heard(np.float32(rows), np.float32(found.get("gain", 1)), length)


def _name(loaded: Loaded) -> str:
    return "mel" if isinstance(loaded.model, DiffusionVocoder) else "latent"
