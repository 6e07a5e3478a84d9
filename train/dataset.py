"""Reads crops of the sounds of a manifest, with prompts and fields, and splits a manifest into two."""

import hashlib
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.audio import files
from archijax.audio.loudness import LOWEST_RATE, gain, level
from archijax.errors import InputError, require
from train.captions import roles
from train.manifest import Entry, Manifest
from train.prompts import Template, describe, prompt

TRIES = 4  # the number of tries to find a crop that is not silent


@dataclass(frozen=True)
class DataConfig:
    """Describes how sound files become training crops."""

    sample_rate: int = 48_000
    """The sample rate in Hz. Files with other rates are resampled."""
    channels: int = 2
    """The number of channels of the crops. Mono sounds are copied to each channel. Surround sound is mixed down by
    ITU-R BS.775. Sounds with other numbers of channels are averaged to mono first."""
    length: int = 2**18
    """The number of samples of a crop. Shorter files are padded with silence."""
    crop: Literal["random", "fixed"] = "random"
    """random: crops start at random positions. fixed: a file is cut into n crops, and prompts end with "i of n"."""
    prompt: str | None = None
    """The prompt of every crop; None: prompts come from captions or tags."""
    template: str | None = None
    """A template that makes prompts from fields, such as "{title} by {artist:0.3}". This template leaves out the artist
    in 30 % of the prompts. {caption} stands for one of the captions. None: a prompt is a caption, or has the tags in
    random order if there are no captions. Each tag is left out with a probability of 10 %."""
    captions: str | None = None
    """The table of captions: CSV, or one JSON object per line; None: metadata.csv and metadata.jsonl in the data
    folder."""
    columns: tuple[str, ...] = ()
    """The columns of the table to use, as ROLE=COLUMN. The roles are file_name, caption (one or more columns), start
    and end."""
    normalize: float | None = None
    """The level in dBFS to which crops are scaled; None: crops are not scaled. The gain is at most 30 dB, and the peak
    is at most 1."""
    normalize_by: Literal["rms", "lufs"] = "rms"
    """The measure of the level: rms, or lufs for the perceived loudness by ITU-R BS.1770."""
    pitch_shift: float = 0.0
    """The largest random shift of the pitch in semitones, up or down. The speed changes with the pitch."""
    random_gain: float = 0.0
    """The largest random change of the level in dB. The peak stays at most 1."""
    flip_polarity: bool = False
    """Invert the polarity (the sign of the samples) of half of the crops. The change is inaudible."""
    swap_channels: bool = False
    """Swap left and right in half of the crops."""
    skip_below: float | None = None
    """A random crop whose RMS in dBFS is below this value is drawn again, up to three times; None: every crop is
    used."""
    memory: float = 0.0
    """The memory in GiB for decoded sounds. If all sounds of a folder fit into this memory, each sound is decoded once
    and kept. Otherwise, every crop is read from the sound file."""
    workers: int = 4
    """The number of threads that read files."""
    prefetch: int = 4
    """The number of batches to read in advance."""

    @property
    def template_fields(self) -> tuple[str, ...]:
        """Returns the names of the fields that the template uses."""
        return () if self.template is None else Template.parse(self.template).names

    def __post_init__(self):
        for name in ("sample_rate", "channels", "length", "workers", "prefetch"):
            if getattr(self, name) < 1:
                raise InputError(f"data.{name} is {getattr(self, name)}, but must be at least 1.")
        roles(self.columns)
        if self.template is not None:
            Template.parse(self.template)
            require(self.prompt is None, "data.prompt", self.prompt, "left out where there is data.template")
        if self.crop not in ("random", "fixed"):
            raise InputError(f'data.crop is "{self.crop}", but must be "random" or "fixed".')
        if self.normalize_by not in ("rms", "lufs"):
            raise InputError(f'data.normalize_by is "{self.normalize_by}", but must be "rms" or "lufs".')
        if self.normalize_by == "lufs":
            allowed = f"{LOWEST_RATE} or more for loudness in LUFS"
            require(self.sample_rate >= LOWEST_RATE, "data.sample_rate", self.sample_rate, allowed)
        for name in ("random_gain", "pitch_shift", "memory"):
            require(0 <= getattr(self, name) < math.inf, f"data.{name}", getattr(self, name), "0 or more")
        require(not self.swap_channels or self.channels == 2, "data.channels", self.channels, "2 for swap_channels")
        if self.normalize is not None and self.normalize > 0:
            raise InputError(f"data.normalize is {self.normalize} dBFS, but must be at most 0 (full scale).")


class Sounds:
    """Reads crops of the sound files in a manifest, and draws prompts. The class is an
    `archijax.contract.ItemSource`."""

    def __init__(self, manifest: Manifest, config: DataConfig):
        self.root, self.config = Path(manifest.root), config
        whole = {(e.shard, e.path): frames_at(_whole(e), config.sample_rate) for e in manifest.entries}
        needed = sum(whole.values()) * config.channels * 4 / 2**30
        self._keeps, self._kept = needed <= config.memory, {}
        if config.memory and not self._keeps:
            sentence = f"the sounds of {manifest.root} need {needed:.2f} GiB, more than data.memory: they are not kept"
            print(sentence, file=sys.stderr)

    def item(self, file: Entry, crop: int, crops: int, rng: np.random.Generator) -> dict[str, np.ndarray | str | dict]:
        """Returns an item: {"audio": float32 [length, channels], "prompt": a text, "fields": a dict}."""
        length = frames_at(file, self.config.sample_rate)
        for _ in range(1 if self.config.skip_below is None else TRIES):
            start = draw_start(self.config, crop, self.config.length, length, rng)
            audio = self.read(file, start, rng)
            if self.config.skip_below is None or level(audio) >= self.config.skip_below:
                break
        prompt = draw_prompt(file, self.config, crop, crops, rng)
        return {"audio": audio, "prompt": prompt, "fields": fields_at(file, start / self.config.sample_rate)}

    def read(self, entry: Entry, start: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Reads the crop of an item that begins at the frame `start`. Returns float32 [length, channels].

        Args:
            rng: the generator for random changes to the crop, which the settings can ask for; None: no changes.

        Raises:
            InputError: the file cannot be read.
        """
        config, rate = self.config, self.config.sample_rate
        if config.pitch_shift and rng is not None:
            # Reading at another rate shifts the pitch. The shift has steps of 0.1 %, so that the resampler's ratio has
            # small terms.
            semitones = rng.uniform(-config.pitch_shift, config.pitch_shift)
            rate = round(1000 * 2 ** (-semitones / 12)) * rate // 1000
        audio = self._decode(entry, start * rate // config.sample_rate, rate)
        if config.normalize is not None:
            by_ear = config.normalize_by == "lufs"
            audio = audio * gain(audio, config.normalize, sample_rate=config.sample_rate if by_ear else None)
        return np.clip(audio if rng is None else self._varied(audio, rng), -1.0, 1.0)

    def _decode(self, entry: Entry, start: int, rate: int) -> np.ndarray:
        """Decodes the crop that begins at `start`, and resamples it to `rate`. Returns float32 [length, channels]."""
        config, frames = self.config, self.config.length
        begin = start + entry.first * rate // entry.sample_rate
        if entry.whole is not None:
            # The crop must not continue after the end of a part.
            frames = max(1, min(frames, frames_at(entry, rate) - start))
        if self._keeps and rate == config.sample_rate:
            name = entry.shard, entry.path
            if name not in self._kept:
                self._kept[name] = files.read(entry.place(self.root), sample_rate=rate, channels=config.channels)
            audio = self._kept[name][begin : begin + frames]
        else:
            place = entry.place(self.root)
            audio = files.read(place, sample_rate=rate, channels=config.channels, start=begin, frames=frames)
        missing = config.length - len(audio)
        return np.pad(audio, ((0, missing), (0, 0))) if missing else audio

    def _varied(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        if config.random_gain:
            peak = float(np.abs(audio).max())
            factor = 10 ** (rng.uniform(-config.random_gain, config.random_gain) / 20)
            audio = audio * np.float32(min(factor, max(1.0, 1 / peak)) if peak else factor)
        if config.flip_polarity and rng.random() < 0.5:
            audio = -audio
        if config.swap_channels and rng.random() < 0.5:
            audio = audio[:, ::-1]
        return audio


class Crops:
    """Lists all crops of an epoch, in the order of the manifest. Element k is (file, i, n): crop i of a file with n
    crops.

    The number of crops in a file is ``max(1, round(file_length / crop_length))``, so long files give more crops. If
    crops are fixed, a rest of at least half a crop at the end of a file is padded with silence. A shorter rest is not
    used.
    """

    def __init__(self, manifest: Manifest, config: DataConfig):
        seconds = np.array([entry.seconds for entry in manifest.entries])
        self.counts = np.maximum(1, np.floor(seconds * config.sample_rate / config.length + 0.5)).astype(np.int64)
        self.ends = np.cumsum(self.counts)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, k: int) -> tuple[int, int, int]:
        file = int(np.searchsorted(self.ends, k, side="right"))
        count = int(self.counts[file])
        return file, int(k - self.ends[file]) + count, count


def frames_at(entry: Entry, sample_rate: int) -> int:
    """Returns the number of frames of an item after resampling to `sample_rate`."""
    return ceil_div(entry.frames * sample_rate, entry.sample_rate)


def _whole(entry: Entry) -> Entry:
    """Returns the entry of the whole file to which the entry belongs."""
    return entry if entry.whole is None else replace(entry, first=0, frames=entry.whole, whole=None)


def draw_start(config: DataConfig, crop: int, length: int, total: int, rng: np.random.Generator) -> int:
    """Returns the start of a crop of `length` samples in a file of `total` samples: ``crop * length`` for fixed crops,
    else a random start."""
    return int(rng.integers(max(1, total - length + 1))) if config.crop == "random" else crop * length


def fields_at(entry: Entry, start: float) -> dict[str, str | float]:
    """Returns the fields of a crop: the tags and fields of the item, the start of the crop ("seconds_start") and the
    length of the item ("seconds_total").

    If a name occurs twice, the field of the item is used.

    Args:
        start: the start of the crop in the item, in seconds.
    """
    return {"seconds_start": start, "seconds_total": entry.seconds, **entry.tags, **entry.fields}


def draw_prompt(
    entry: Entry, config: DataConfig, i: int, count: int, rng: np.random.Generator, turn: int | None = None
) -> str:
    """Draws a prompt for crop ``i`` of an item that has ``count`` crops.

    The caption is the setting `prompt`, or else a caption of the item. The setting `template`, if it exists, makes the
    prompt from the caption and the tags. Without a template, the prompt is the caption, or else it is made of the tags.

    Args:
        turn: selects the caption ``captions[turn % len(captions)]``; None: a random caption.
    """
    position = (i + 1, count) if config.crop == "fixed" else None
    captions = entry.captions if config.prompt is None else (config.prompt,)
    if captions:
        turn = int(rng.integers(len(captions))) if turn is None else turn
        caption = captions[turn % len(captions)]
    if config.template is not None:
        values = {**describe(entry.tags, entry.path), **fields_at(entry, 0.0)}
        text = Template.parse(config.template).fill({**values, **({"caption": caption} if captions else {})}, rng)
    elif captions:
        text = caption
    else:
        return prompt(describe(entry.tags, entry.path), rng, position=position)
    return prompt({"title": text}, rng, drop=0.0, position=position)


def split(manifest: Manifest, fraction: float, seed: int = 0) -> tuple[Manifest, Manifest]:
    """Splits a manifest into (training, validation), with about ``fraction`` of the files in validation.

    A hash of the path decides whether a file is for training or validation. The decision stays the same when other
    files are added or removed. If a folder has at least two files, both manifests get at least one file of the folder.
    With fraction 0, validation is empty.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"The validation fraction is {fraction}, but must be at least 0 and below 1.")

    def position(path):
        digest = hashlib.blake2b(f"{seed}/{path}".encode(errors="surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    held = set()
    for number in range(len(manifest.weights)):
        paths = {entry.path for entry in manifest.entries if entry.source == number}
        ordered = sorted((position(path), path) for path in paths)
        count = sum(value < fraction for value, _ in ordered)
        if fraction and len(ordered) > 1:
            count = min(max(count, 1), len(ordered) - 1)
        held |= {(number, path) for _, path in ordered[: count if len(ordered) > 1 else 0]}
    return (
        replace(manifest, entries=tuple(e for e in manifest.entries if (e.source, e.path) not in held)),
        replace(manifest, entries=tuple(e for e in manifest.entries if (e.source, e.path) in held)),
    )
