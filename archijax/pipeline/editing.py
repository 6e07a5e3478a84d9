"""Sounds made of a sound: a part made anew, variations, and how it goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import InputError, require
from archijax.pipeline.driver import Progress
from archijax.pipeline.generation import Finish, Generation
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings, to_samples
from archijax.pipeline.sounds import Source


def inpainting(
    loaded: Loaded, settings: SampleSettings, source: Source, start: float, end: float, **options: Any
) -> Generation:
    """Sounds with the part from start to end seconds made anew, at the rate and channels of the source.

    Outside the part they hold its very samples.

    Args:
        options: prompts, items, batch_size and num_resamples of :class:`Generation`.

    Raises:
        InputError: the part is not in the sound, or holds no sample.
    """
    config = loaded.config
    if not 0 <= start < end <= source.seconds:
        raise InputError(
            f"start and end are {start:g} and {end:g}, but must be in order and within the sound's "
            f"{source.seconds:g} s."
        )
    part = slice(round(start * source.sample_rate), round(end * source.sample_rate))
    if part.start == part.stop:
        raise InputError(f"The part from {start:g} to {end:g} s holds no sample at {source.sample_rate} Hz.")
    # In samples of the model, with as much around it as the model was trained to see at once.
    begin = math.floor(part.start * config.sample_rate / source.sample_rate)
    stop = math.ceil(part.stop * config.sample_rate / source.sample_rate)
    region = source.region(begin - config.length, stop + config.length)
    place = np.arange(region.start, region.stop)

    def finish(audio: np.ndarray, item: int, progress: Progress) -> np.ndarray:
        first, sound = source.restored(audio, region)
        result, new = source.sound.copy(), sound[part.start - first : part.stop - first]
        result[part.start : part.start + len(new)] = new
        return result

    mask = (place < begin) | (place >= stop)
    options |= {
        "length": len(place),
        "source": source.audio[region],
        "mask": mask,
        "finish": Finish(source.sample_rate, finish),
    }
    return Generation(loaded, settings, **options)


def variation(loaded: Loaded, settings: SampleSettings, source: Source, strength: float, **options: Any) -> Generation:
    """Variations of the source at the model's rate and channels: part of the way to noise and back.

    Args:
        strength: the part of the way, above 0 to 1: near 0 the sound itself, 1 another one.
        options: prompts, items and batch_size of :class:`Generation`.
    """
    require(0 < strength <= 1, "strength", strength, "above 0 and at most 1")
    finish = Finish(source.model_rate, lambda audio, item, progress: audio / source.gain)
    options |= {"length": len(source.audio), "source": source.audio, "strength": strength, "finish": finish}
    return Generation(loaded, settings, **options)


class Extension(Generation):
    """The source and how it goes on: by half of the model's length at a time, at constant memory.

    Each part is made to fit the half before it. The result has the rate and channels of the source, and begins with its
    very samples.

    Args:
        seconds: of new sound.
        options: as for :func:`inpainting`.
    """

    def __init__(self, loaded: Loaded, settings: SampleSettings, source: Source, seconds: float, **options: Any):
        config = loaded.config
        self._new = to_samples("seconds", seconds, config.sample_rate)
        self._context = config.length // 2
        # Of a shorter sound less is kept, and what would lie before it is made up and dropped.
        tail = source.audio[-self._context :]
        self._missing, self._hop = self._context - len(tail), config.length - self._context
        self._place, self._parts = np.arange(config.length), ceil_div(self._new, self._hop)
        self._tail = np.pad(tail, ((self._missing, 0), (0, 0)))
        region = source.region(len(source.audio) - self._context, len(source.audio))

        def finish(audio: np.ndarray, item: int, progress: Progress) -> np.ndarray:
            first, sound = source.restored(np.concatenate([source.audio[region], audio]), region)
            return np.concatenate([source.sound, sound[len(source.sound) - first :]])

        window = np.pad(self._tail, ((0, self._hop), (0, 0)))
        finish = Finish(source.sample_rate, finish)
        super().__init__(loaded, settings, source=window, mask=self._kept(self._missing), finish=finish, **options)
        self.steps *= self._parts

    def batch(self, items: Sequence[tuple[int, int]], progress: Progress) -> np.ndarray:
        """The new sound [n, time, channels] of a batch of items."""
        tail, new = np.repeat(self._tail[None], len(items), axis=0), []
        for part in range(self._parts):
            window = np.pad(tail, ((0, 0), (0, self._hop), (0, 0)))
            audio = self.sample(items, progress, window, self._kept(0 if part else self._missing), part)
            new.append(audio[:, self._context :])
            tail = audio[:, -self._context :]
        return np.concatenate(new, axis=1)[:, : self._new]

    def _kept(self, first: int) -> np.ndarray:
        return (self._place >= first) & (self._place < self._context)
