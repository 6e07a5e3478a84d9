"""A folder of latents: those of every crop of a dataset, computed once, for latent training to read in place of sound.

latents/PATH.npy            float32 [crops * frames, channels] of the sound file PATH, crop after crop
latents-SHARD-of-OF.json    what the process SHARD has written: settings, files, failures
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from archijax.atomic import replacing
from archijax.config import to_dict
from archijax.errors import InputError, listed
from train.config import TrainConfig, unequal
from train.dataset import Crops
from train.manifest import Entry, Manifest


def fingerprint(variables: Mapping[str, Any]) -> str:
    """Tells two sets of weights apart."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(dict(variables), sep="/").items()):
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def settings(config: TrainConfig) -> dict[str, Any]:
    """What latents depend on beside the sounds and the weights, JSON-able."""
    data = {name: getattr(config.data, name) for name in ("sample_rate", "channels", "length", "normalize")}
    return json.loads(json.dumps({"autoencoder": to_dict(config.model.autoencoder), "data": data}))


def record_path(folder: Path, shard: int, of: int) -> Path:
    """Where process `shard` of `of` says what it has written."""
    return folder / f"latents-{shard}-of-{of}.json"


def latent_path(folder: Path, path: str) -> Path:
    """Where the latents of the sound file `path` are."""
    return folder / "latents" / f"{path}.npy"


def records(folder: Path) -> list[dict]:
    """What the processes have said that wrote to a folder. Raises InputError if one cannot be read."""
    found = []
    for path in sorted(folder.glob("latents-*-of-*.json")):
        try:
            found.append(json.loads(path.read_text()))
        except ValueError:
            raise InputError(f"{path} is not readable as JSON: encode into another folder.") from None
    return found


def check_settings(folder: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raises InputError, naming them, if latents in a folder were made with settings other than ours."""
    found = [f"{name} is {there} there and {here} here" for name, (here, there) in unequal(ours, theirs).items()]
    if found:
        raise InputError(f"{folder} holds latents of other settings: {listed(found, 3, '; ')}.")


class Latents:
    """The latents in a folder, as `train.dataset.batches` reads them.

    Attributes:
        manifest: the sound files that they are of.
        weights: fingerprint of the autoencoder's variables.
        length: frames of a crop.

    Args:
        folder: that `python -m train.encode` wrote.
        config: of the latent training.

    Raises:
        InputError: the folder is not complete, or was made with other settings.
    """

    key = "latent"

    def __init__(self, folder: str | Path, config: TrainConfig):
        self.folder, self.config = Path(folder), config.data
        if not hasattr(config.model, "autoencoder"):
            raise InputError(f"{folder} holds latents, which only a latent model trains on: give a folder of sounds.")
        found = records(self.folder)
        for record in found:
            check_settings(self.folder, settings(config), record["settings"])
        alike = {(record["of"], record["files"], record["weights"], record["finished"]) for record in found}
        if len(alike) != 1 or len(found) != found[0]["of"] or not found[0]["finished"]:
            raise InputError(
                f"The latents in {folder} are not complete: run python -m train.encode again, with every --shard."
            )
        if config.data.crop == "random" and config.data.normalize is not None:
            raise InputError(
                "Of latents of normalized crops only whole ones can be used, as random ones would change in loudness: "
                "set data.crop to fixed."
            )
        entries = sorted((Entry(**entry) for record in found for entry in record["entries"]), key=lambda e: e.path)
        self.manifest = Manifest(str(self.folder.resolve()), tuple(entries))
        self.weights = found[0]["weights"]
        self.channels = found[0]["channels"]
        self.length = found[0]["frames"]
        self._counts = dict(zip((e.path for e in entries), Crops(self.manifest, config.data).counts, strict=True))

    @staticmethod
    def lie_in(folder: str | Path) -> bool:
        """Whether a folder holds latents, complete or not."""
        return any(Path(folder).glob("latents-*-of-*.json"))

    def check(self, autoencoder: Mapping[str, Any]) -> None:
        """Raises InputError if these are not the variables that made the latents."""
        if fingerprint(autoencoder) != self.weights:
            raise InputError(
                f"The latents in {self.folder} were made by another autoencoder than the one of this run: encode again."
            )

    def positions(self, entry: Entry) -> int:
        """Frames of a file's latents that are not of the silence after it."""
        samples = -(-entry.frames * self.config.sample_rate // entry.sample_rate)
        frames = -(-samples * self.length // self.config.length)
        return min(frames, int(self._counts[entry.path]) * self.length)

    def read(self, entry: Entry, start: int) -> np.ndarray:
        """Float32 [length, channels] from the frame `start` of a file on. Raises InputError if it cannot be read."""
        path = latent_path(self.folder, entry.path)
        try:
            latents = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}).") from None
        if latents.shape != (int(self._counts[entry.path]) * self.length, self.channels):
            raise InputError(f"{path} has the shape {list(latents.shape)}, which is not that of its sound's latents.")
        return np.array(latents[start : start + self.length], np.float32)


def write_latents(folder: Path, entry: Entry, latents: np.ndarray) -> None:
    """Writes the latents [frames, channels] of a sound file, as old as the file itself."""
    with replacing(latent_path(folder, entry.path)) as unfinished:
        with unfinished.open("wb") as file:
            np.save(file, np.asarray(latents, np.float32))
        os.utime(unfinished, ns=(entry.modified, entry.modified))


def write_record(path: Path, entries: tuple[Entry, ...], **facts: Any) -> None:
    """Writes what a process has done."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({**facts, "entries": [asdict(entry) for entry in entries]}, indent=1) + "\n")
