"""Reads and writes a folder with the latents of every crop of a dataset, and with embeddings of prompts.

A latent model can be trained on this folder in place of sounds and prompts.

latents/PATH.npy            the latents of all crops of the sound file PATH: float32 [crops * frames, channels]. For
                            the frames FIRST to LAST - 1 of a file, the name is PATH@FIRST-LAST.npy.
embeddings/PATH.npy         the embeddings of prompts for all crops: float16 [crops * texts, max_length, features]
                            (optional)
latents-SHARD-of-OF.json    the record of the process SHARD: the settings, the files and the failures
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

from archijax.arithmetic import ceil_div
from archijax.atomic import replacing
from archijax.configs import to_dict
from archijax.errors import InputError, listed, require
from train.config import TrainConfig, unequal
from train.dataset import Crops, draw_prompt, draw_start, fields_at, frames_at
from train.manifest import Entry, Manifest, read_entry

_SETTINGS = ("sample_rate", "channels", "length", "normalize", "normalize_by")  # these change latents
_OF_SOUNDS = ("pitch_shift", "random_gain", "flip_polarity", "swap_channels")


def fingerprint(variables: Mapping[str, Any]) -> str:
    """Returns a hash of the weights in `variables`."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(dict(variables), sep="/").items()):
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def settings(config: TrainConfig) -> dict[str, Any]:
    """Returns the settings on which the latents depend, as a dict for JSON."""
    data = {name: getattr(config.data, name) for name in _SETTINGS}
    return json.loads(json.dumps({"autoencoder": to_dict(config.model.autoencoder), "data": data}))


def uses_texts(config: TrainConfig) -> bool:
    """Returns whether a model can use stored embeddings of texts, which needs a text encoder that is not trained."""
    text = config.model.text
    return text is not None and text.is_pretrained and not text.placeholder_tokens


def text_settings(config: TrainConfig) -> dict[str, Any]:
    """Returns the settings on which the embeddings of texts depend, as a dict for JSON.

    Raises InputError for a model that cannot use stored embeddings.
    """
    text = config.model.text
    if not uses_texts(config):
        reason = "the model reads no text"
        if text is not None:
            tokens = text.placeholder_tokens
            reason = f'model.text.tokenizer is "{text.tokenizer}" and model.text.placeholder_tokens {tokens}'
        raise InputError(
            f"Texts can be stored for a pretrained encoder without placeholder tokens, but {reason}: use --texts 0."
        )
    return {
        "model": {"text": {"tokenizer": text.tokenizer, "max_length": text.max_length}},
        "data": {name: getattr(config.data, name) for name in ("crop", "prompt", "template")},
    }


def record_path(folder: Path, shard: int, of: int) -> Path:
    """Returns the path of the record that process number `shard` of `of` processes writes."""
    return folder / f"latents-{shard}-of-{of}.json"


def latent_path(folder: Path, path: str) -> Path:
    """Returns the path at which the latents of the sound file `path` are stored."""
    return folder / "latents" / f"{path}.npy"


def embedding_path(folder: Path, path: str) -> Path:
    """Returns the path at which the text embeddings for the sound file `path` are stored."""
    return folder / "embeddings" / f"{path}.npy"


def records(folder: Path) -> list[dict]:
    """Reads the records of all processes that wrote to a folder. Raises InputError if a record cannot be read."""
    contents = []
    for path in sorted(folder.glob("latents-*-of-*.json")):
        try:
            contents.append(json.loads(path.read_text()))
        except ValueError:
            raise InputError(f"{path} is not readable as JSON: encode into another folder.") from None
    return contents


def check_settings(folder: Path, ours: dict[str, Any], theirs: dict[str, Any], what: str = "latents") -> None:
    """Raises InputError if `theirs`, the settings stored in a folder, differ from `ours`. The message lists the
    differences."""
    different = [f"{name} is {there} there and {here} here" for name, (here, there) in unequal(ours, theirs).items()]
    if different:
        raise InputError(
            f"{folder} holds {what} of other settings: {listed(different, 3, '; ')}. Encode into another folder."
        )


class Latents:
    """Reads the latents in a folder, and embeddings if there are any. The class is an `archijax.contract.ItemSource`.

    Attributes:
        manifest: the sound files from which the latents were made.
        weights: the fingerprint of the autoencoder's variables.
        length: the number of frames of a crop.
        texts: the number of embeddings per crop; 0: there are none, or the model cannot use them.

    Args:
        folder: the folder that `python -m train.encode` wrote.
        config: the settings of the latent training.

    Raises:
        InputError: the folder is not complete, or its latents were made with other settings.
    """

    def __init__(self, folder: str | Path, config: TrainConfig):
        self.folder, self.config = Path(folder), config.data
        if config.model.autoencoder is None:
            raise InputError(f"{folder} holds latents, which only a latent model trains on: give a folder of sounds.")
        written = records(self.folder)
        for record in written:
            check_settings(self.folder, settings(config), record["settings"])
            if uses_texts(config) and (texts := record.get("texts")):
                check_settings(self.folder, text_settings(config), texts["settings"], "texts")
        facts = [[record.get(name) for name in ("of", "files", "weights", "texts")] for record in written]
        complete = written and len(written) == written[0]["of"] and all(record["finished"] for record in written)
        if not complete or any(fact != facts[0] for fact in facts):
            raise InputError(
                f"The latents in {folder} are not complete: run python -m train.encode again, with every --shard."
            )
        if config.data.crop == "random" and config.data.normalize is not None:
            raise InputError(
                "Of latents of normalized crops only whole ones can be used, as random ones would change in loudness: "
                "set data.crop to fixed."
            )
        for name in _OF_SOUNDS:
            value = getattr(config.data, name)
            require(not value, f"data.{name}", value, "left out for latents, whose sounds no longer change")
        entries = [read_entry(entry) for record in written for entry in record["entries"]]
        entries.sort(key=lambda entry: (entry.path, entry.first, entry.frames))
        self.manifest = Manifest(str(self.folder.resolve()), tuple(entries))
        self.weights = written[0]["weights"]
        self.channels = written[0]["channels"]
        self.length = written[0]["frames"]
        texts = (uses_texts(config) and written[0].get("texts")) or {"count": 0, "weights": None}
        self.texts, self._text_weights = texts["count"], texts["weights"]
        if self.texts:
            self._text_shape = (config.model.text.max_length, config.model.text.t5().d_model)
        self._counts = dict(zip((e.name for e in entries), Crops(self.manifest, config.data).counts, strict=True))

    @staticmethod
    def lie_in(folder: str | Path) -> bool:
        """Returns whether a folder holds latents, even if some of them are missing."""
        return any(Path(folder).glob("latents-*-of-*.json"))

    def check(self, frozen: Mapping[str, Any]) -> None:
        """Raises InputError if latents or embeddings were made with frozen variables other than `frozen`."""
        if fingerprint(frozen["autoencoder"]) != self.weights:
            raise InputError(f"The latents in {self.folder} are of another autoencoder than this run's: encode again.")
        if self.texts and fingerprint(frozen["embedder"]) != self._text_weights:
            raise InputError(
                f"The texts in {self.folder} were encoded by another encoder than the one of this run: encode again."
            )

    def item(self, file: Entry, crop: int, crops: int, rng: np.random.Generator) -> dict[str, np.ndarray | str | dict]:
        """Returns a dict of "latent" [length, channels], "fields", and either "embedding" [max_length, features] or
        "prompt"."""
        start = draw_start(self.config, crop, self.length, self.frames(file), rng)
        seconds = start * self.config.length / (self.length * self.config.sample_rate)
        latent = {"latent": self.read(file, start), "fields": fields_at(file, seconds)}
        if self.texts:
            return {**latent, "embedding": self.embedding(file, start, rng)}
        return {**latent, "prompt": draw_prompt(file, self.config, crop, crops, rng)}

    def frames(self, entry: Entry) -> int:
        """Returns the number of latent frames of a file. Frames of padding do not count."""
        frames = ceil_div(frames_at(entry, self.config.sample_rate) * self.length, self.config.length)
        return min(frames, int(self._counts[entry.name]) * self.length)

    def read(self, entry: Entry, start: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Returns the latents of a crop that begins at frame `start`: float32 [length, channels]. Raises InputError if
        the file cannot be read."""
        shape = (int(self._counts[entry.name]) * self.length, self.channels)
        latents = _stored(latent_path(self.folder, entry.name), shape)
        return np.array(latents[start : start + self.length], np.float32)

    def embedding(self, entry: Entry, start: int, rng: np.random.Generator) -> np.ndarray:
        """Draws one of the stored embeddings for the crop that contains the frame `start`.

        Returns float32 [max_length, features]. Raises InputError if the file cannot be read.
        """
        crop, text = start // self.length, int(rng.integers(self.texts))
        shape = (int(self._counts[entry.name]) * self.texts, *self._text_shape)
        embeddings = _stored(embedding_path(self.folder, entry.name), shape)
        return np.array(embeddings[crop * self.texts + text], np.float32)


def _stored(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    if array.shape != shape:
        raise InputError(f"{path} has the shape {list(array.shape)}: {list(shape)} is needed for its sound.")
    return array


def text_time(entry: Entry) -> int:
    """Returns the modification time in ns that the embedding file of an item gets. The time depends on captions and
    fields."""
    if not entry.captions and not entry.fields:
        return entry.modified
    digest = hashlib.blake2b(json.dumps([entry.captions, entry.fields]).encode(), digest_size=4).digest()
    return entry.modified + int.from_bytes(digest)


def is_written(path: Path, modified: int) -> bool:
    """Returns whether `path` is a file that `write_array` has written, with the modification time ``modified`` in
    ns."""
    # A file with an older or a newer time is made again.
    return path.exists() and path.stat().st_mtime_ns == modified


def write_array(path: Path, modified: int, array: np.ndarray) -> None:
    """Writes an array to a file, and sets the modification time to ``modified`` in ns. :func:`is_written` recognises
    the file by this time."""
    with replacing(path) as unfinished:
        with unfinished.open("wb") as file:
            np.save(file, array)
        os.utime(unfinished, ns=(modified, modified))


def write_record(path: Path, entries: tuple[Entry, ...], **facts: Any) -> None:
    """Writes the record of this process. The record has `facts` and the files in `entries`."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({**facts, "entries": [asdict(entry) for entry in entries]}, indent=1) + "\n")
