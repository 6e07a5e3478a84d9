"""The verbs that start from a sound: inpaint, vary, extend."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import tyro

from archijax.audio import files
from archijax.errors import InputError
from sample.generation import Generation
from sample.model import Loaded, frames, load
from sample.output import Output
from sample.settings import Settings, require, shared
from sample.writing import write


class Source:
    """A sound file, as it is and as a model hears it.

    Attributes:
        sound: [n, channels] as in the file, at `sample_rate` Hz.
        heard: [frames, channels] at the model's rate and channels, brought to the loudness of its training sounds.
    """

    def __init__(self, path: Path, loaded: Loaded):
        config = loaded.config
        self.path, self.sample_rate, self.model_rate = path, files.info(path).sample_rate, config.sample_rate
        self.sound = files.read(path)
        heard = files.read(path, sample_rate=config.sample_rate, channels=config.channels)
        self.gain = loaded.gain(heard)
        self.heard = heard * self.gain
        # 24 bits hold what most files hold, and every player reads them; else floats do.
        scaled = np.float64(self.sound) * 2**23
        self.exact = bool((scaled != np.round(scaled)).any() or (np.abs(self.sound) > 1).any())

    @property
    def seconds(self) -> float:
        return len(self.sound) / self.sample_rate

    def region(self, begin: int, end: int) -> slice:
        """Frames of `heard` around [begin, end), beginning where the two rates' grids meet."""
        stride = self.model_rate // math.gcd(self.model_rate, self.sample_rate)
        return slice(max(0, begin) // stride * stride, min(len(self.heard), end))

    def restored(self, made: np.ndarray, region: slice) -> tuple[int, np.ndarray]:
        """(first frame, sound) in the file's rate, channels and loudness, of what was made from a region on."""
        first = region.start * self.sample_rate // self.model_rate
        sound = made / self.gain
        if self.sample_rate != self.model_rate:
            sound = soxr.resample(sound, self.model_rate, self.sample_rate)
        channels = self.sound.shape[1]
        if sound.shape[1] != channels:
            sound = sound.mean(axis=1, keepdims=True).repeat(channels, axis=1)
        return first, sound.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Edit(Settings):
    """What the verbs that start from a sound share."""

    sound: tyro.conf.Positional[Path]
    """The sound file to start from."""
    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""
    out: Path
    """Folder for the files."""
    prompt: str = ""
    """What it should sound like, for a model that reads text."""
    count: int = 1
    """Different results to make."""
    first: int = 0
    """Number of the first of them."""
    batch_size: int = 16
    """Results made at once, at most."""

    def generation(self, loaded: Loaded, **settings: Any) -> Generation:
        """The generation of the results."""
        prompts = [self.prompt] if self.prompt or loaded.tokenizer is not None else []
        return Generation(
            loaded, prompts, count=self.count, first=self.first, batch_size=self.batch_size, **settings, **shared(self)
        )

    @property
    def stem(self) -> str:
        """The beginning of the results' names."""
        return f"{self.sound.stem}_{type(self).__name__.lower()}"


@dataclass(frozen=True, kw_only=True)
class Inpaint(Edit):
    """Makes a part of a sound anew, to fit what is around it.

    The result has the sample rate and channels of the file, and outside the part its very samples.
    """

    start: float
    """Where the part begins, in seconds."""
    end: float
    """Where it ends, in seconds."""
    num_resamples: int = 1
    """How often each step is taken, so that the part and what is around it come to agree."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        loaded = load(self.model)
        source = Source(self.sound, loaded)
        if not 0 <= self.start < self.end <= source.seconds:
            raise InputError(
                f"start and end are {self.start:g} and {self.end:g}, but must be in order and within the sound's "
                f"{source.seconds:g} s."
            )
        part = slice(round(self.start * source.sample_rate), round(self.end * source.sample_rate))
        if part.start == part.stop:
            raise InputError(
                f"The part from {self.start:g} to {self.end:g} s holds no sample at {source.sample_rate} Hz."
            )
        # In frames of the model, with as much around it as the model was trained to hear at once.
        begin = math.floor(part.start * loaded.config.sample_rate / source.sample_rate)
        end = math.ceil(part.stop * loaded.config.sample_rate / source.sample_rate)
        region = source.region(begin - loaded.config.length, end + loaded.config.length)
        place = np.arange(region.start, region.stop)
        generation = self.generation(
            loaded,
            frames=len(place),
            source=source.heard[region],
            mask=(place < begin) | (place >= end),
            num_resamples=self.num_resamples,
        )

        def run(progress: Callable[[], Any]) -> Iterator[tuple[int, int, np.ndarray]]:
            for number, item, made in generation.run(progress):
                first, sound = source.restored(made, region)
                result, new = source.sound.copy(), sound[part.start - first : part.stop - first]
                result[part.start : part.start + len(new)] = new
                yield number, item, result

        output, seconds = Output(self.out, source.sample_rate), self.end - self.start
        write(generation, output, run, generation.steps, stem=self.stem, seconds=seconds, exact=source.exact)


@dataclass(frozen=True, kw_only=True)
class Vary(Edit):
    """Makes variations of a sound: takes it part of the way to noise, and back.

    The result has the model's sample rate and channels.
    """

    strength: float = 0.5
    """Part of the way to noise: near 0 the sound itself, 1 another one."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        require(0 < self.strength <= 1, "strength", self.strength, "above 0 and at most 1")
        loaded = load(self.model)
        source = Source(self.sound, loaded)
        generation = self.generation(loaded, frames=len(source.heard), source=source.heard, strength=self.strength)

        def run(progress: Callable[[], Any]) -> Iterator[tuple[int, int, np.ndarray]]:
            for number, item, made in generation.run(progress):
                yield number, item, made / source.gain

        write(generation, Output(self.out, source.model_rate), run, generation.steps, stem=self.stem)


@dataclass(frozen=True, kw_only=True)
class Extend(Edit):
    """Lets a sound go on: by half of the model's length at a time, to fit the half before it, at constant memory.

    The result has the sample rate and channels of the file, and begins with its very samples.
    """

    seconds: float
    """Seconds of new sound."""
    num_resamples: int = 1
    """How often each step is taken, so that old and new come to agree."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        loaded = load(self.model)
        config, source = loaded.config, Source(self.sound, loaded)
        wanted = frames("seconds", self.seconds, config.sample_rate)
        context = config.length // 2
        # Of a shorter sound less is kept, and what would lie before it is made up and dropped.
        tail = source.heard[-context:]
        missing = context - len(tail)
        tail = np.pad(tail, ((missing, 0), (0, 0)))
        place, hop = np.arange(config.length), config.length - context
        parts = -(-wanted // hop)
        generation = self.generation(
            loaded,
            source=np.pad(tail, ((0, hop), (0, 0))),
            mask=(place >= missing) & (place < context),
            num_resamples=self.num_resamples,
        )
        region = source.region(len(source.heard) - context, len(source.heard))

        def run(progress: Callable[[], Any]) -> Iterator[tuple[int, int, np.ndarray]]:
            for batch in range(generation.batches):
                items = generation.of(batch)
                heard, new = np.repeat(tail[None], len(items), axis=0), []
                for part in range(parts):
                    window = np.pad(heard, ((0, 0), (0, hop), (0, 0)))
                    mask = (place >= (0 if part else missing)) & (place < context)
                    made = generation.make(batch, progress, window, mask, part)
                    new.append(made[:, context:])
                    heard = made[:, -context:]
                for (number, item), more in zip(items, np.concatenate(new, axis=1)[:, :wanted], strict=True):
                    whole = np.concatenate([source.heard[region], more])
                    first, sound = source.restored(whole, region)
                    yield number, item, np.concatenate([source.sound, sound[len(source.sound) - first :]])

        output = Output(self.out, source.sample_rate)
        steps = generation.steps * parts
        write(generation, output, run, steps, stem=self.stem, seconds=self.seconds, exact=source.exact)
