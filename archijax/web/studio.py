"""Loads models for the web page, runs work that can be stopped, and keeps sounds as files."""

import ctypes
import queue
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from archijax.audio import files, plots
from archijax.configs import kind_of
from archijax.contract import Codec, Generator
from archijax.errors import InputError, require
from archijax.pipeline import Pipeline, Sounds
from archijax.pretrained import from_pretrained

MOST_SAMPLES = 30_000_000  # samples of a sound over all channels: five minutes of stereo at 48 kHz
MOST_STEPS = MOST_LETTERS = 1000  # steps of sampling; letters of a prompt
KEPT = 50  # sounds that a tab keeps
WORKER = ThreadPoolExecutor(1)  # one thread, so that one sound at a time uses all processors


def load(names: Iterable[str]) -> tuple[dict[str, Pipeline], dict[str, Pipeline]]:
    """Loads models with :func:`archijax.from_pretrained`. Returns two dicts from names to models: (models that generate
    sound, models that upsample sound).

    Raises:
        InputError: a model does not exist, or neither generates nor upsamples sound.
    """
    models = {name: from_pretrained(name) for name in names}
    makers = {name: each for name, each in models.items() if isinstance(each.model, Generator)}
    upsamplers = {
        name: each for name, each in models.items() if isinstance(each.model, Codec) and each.model.frames == "sound"
    }
    for name in models.keys() - makers.keys() - upsamplers.keys():
        kind = kind_of(models[name].config)
        raise InputError(f"{name} is of kind {kind!r}: a model that generates or upsamples sound is needed.")
    return makers, upsamplers


def work(pipeline: Pipeline, verb: str, prompt: str, sound: Path | None, **options: Any) -> Callable[..., Sounds]:
    """Returns the argument of :func:`run`: a function that calls a method of the pipeline and returns the Sounds.

    Args:
        verb: the name of the method: generate, vary, inpaint, extend or upsample.
        sound: the file of the sound that the method edits; None for generate.
        options: the keyword arguments of the method, which must include num_steps (a number or None).

    Raises:
        InputError: ``sound`` is missing, an option that needs a number is None, or an option exceeds a limit of the
            page.
    """
    require(len(prompt) <= MOST_LETTERS, "The prompt", f"{len(prompt)} letters", f"at most {MOST_LETTERS} long")
    require((options["num_steps"] or 1) <= MOST_STEPS, "num_steps", options["num_steps"], f"at most {MOST_STEPS}")
    for name in options.keys() & {"seconds", "strength", "start", "end"}:
        require(options[name] is not None, name, "empty", "a number")
    seconds, options["prompts" if verb == "generate" else "prompt"] = options.get("seconds", 0.0), prompt
    if verb != "generate":
        if sound is None:
            raise InputError("There is no sound to start from yet: generate or upload one.")
        seconds, options["sound"] = seconds + _seconds(files.info(sound)), sound
    _check_length(seconds, pipeline.config.sample_rate, pipeline.config.channels)
    return partial(getattr(pipeline, verb), **options)


def run(make: Callable[..., Sounds]) -> Iterator[int | Sounds]:
    """Calls ``make(progress=...)`` in a thread. Several times a second, yields the number of steps that are done.
    Yields the sounds at the end. Closing the generator stops the work."""
    stop, news = threading.Event(), queue.SimpleQueue()

    def progress(count: int) -> None:
        # At Ctrl-C the main thread ends, and the program waits for this thread.
        if stop.is_set() or not threading.main_thread().is_alive():
            raise InterruptedError
        news.put(count)

    future, done = WORKER.submit(make, progress=progress), 0
    try:
        while not (future.done() and news.empty()):
            with suppress(queue.Empty):
                done += news.get(timeout=0.2)
            yield done
        yield future.result()
    finally:
        stop.set()
        future.cancel()
        # Memory that glibc keeps looks like a leak: it grows for dozens of sounds before glibc uses it again.
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _seconds(header: files.AudioInfo) -> float:
    return header.frames / header.sample_rate


def _check_length(seconds: float, rate: int, channels: int) -> None:
    most = MOST_SAMPLES // (rate * channels)
    require(
        seconds <= most, "The sound", f"{seconds:g} s", f"at most {most} s long, at {rate} Hz x {channels} channels"
    )


class Kept(NamedTuple):
    """Describes a sound that a browser tab has made or uploaded.

    Attributes:
        title: the title of the sound on the page.
        facts: a line that says how the sound was made.
        wav: the WAV file of the sound. The .flac and .png files in the same folder have the same stem.
        source: the file that an edit of the sound reads: the uploaded file, or ``wav``.
    """

    title: str
    facts: str
    wav: Path
    source: Path


class Shelf(dict[int, Kept]):
    """Holds the sounds of a browser tab by their numbers. Each sound is in a folder with a random name. Only the newest
    50 sounds are kept."""

    def keep(self, root: Path, made: Sounds, title: str, facts: str, source: Path | None = None) -> int:
        """Writes the first sound of ``made`` to files below ``root``, and returns the number of the sound. Moves the
        file ``source`` to the folder of these files. Raises InputError or OSError if a write fails."""
        (sound, *_), rate = made
        folder, stem = root / secrets.token_urlsafe(16), re.sub(r"[\W_]+", "-", title.lower()).strip("-")[:80]
        folder.mkdir(parents=True)
        wav = folder / f"{stem or 'sound'}.wav"
        facts += f", length {len(sound) / rate:.4g} s, {rate} Hz"
        facts += ", louder than full scale and clipped there" * bool(np.mean(np.abs(sound) > 1) > 1e-3)
        for path in (wav, wav.with_suffix(".flac")):
            files.write(path, sound, rate, {"title": title, "comment": facts, "software": "archijax"})
        plots.spectrogram(wav.with_suffix(".png"), np.clip(sound, -1, 1), rate)
        number, moved = max(self, default=0) + 1, wav
        if source is not None:
            moved = Path(shutil.move(source, folder / f"from-{source.name}"))
        self[number] = Kept(title, facts, wav, moved)
        self.remove(list(self)[:-KEPT])
        return number

    def upload(self, root: Path, path: Path) -> int:
        """Moves an uploaded sound to a folder below ``root``, and returns the number of the sound. Raises InputError if
        the file is no sound or is too long."""
        header = files.verify(path)
        _check_length(_seconds(header), header.sample_rate, header.channels)
        return self.keep(root, Sounds(files.read(path)[None], header.sample_rate), path.name, "uploaded", path)

    def remove(self, numbers: Iterable[int] | None = None) -> None:
        """Removes the sounds with these numbers, and the files of these sounds; None: all sounds."""
        for number in list(self) if numbers is None else numbers:
            shutil.rmtree(self.pop(number).wav.parent, ignore_errors=True)
