"""Sounds that a pipeline takes: files or arrays, brought to a model's sample rate, channels and loudness and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import InputError

Sound = str | Path | np.ndarray
"""A file, or an array [time, channels] (or [time]) whose sample rate is said beside it."""


def load_sound(sound: Sound, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """(float32 [time, channels], sample rate in Hz) of a file, or of an array of this sample rate.

    Raises:
        InputError: no such file, not sound, not finite, or an array without its sample rate.
    """
    if isinstance(sound, str | Path):
        from archijax.audio import files

        return files.read(sound), files.info(sound).sample_rate
    array = np.asarray(sound, np.float32)
    array = array[:, None] if array.ndim == 1 else array
    if sample_rate is None:
        raise InputError("the sample rate of the sound is missing: give sample_rate in Hz")
    if array.ndim != 2 or not array.size:
        raise InputError(f"the sound has shape {np.shape(sound)}: [time, channels] is needed, and not empty")
    if not np.isfinite(array).all():
        raise InputError("the sound holds samples that are not finite (NaN or infinity)")
    return array, sample_rate


def converted(sound: np.ndarray, sample_rate: int, to_rate: int, channels: int | None) -> np.ndarray:
    """A sound [time, channels] at another rate and number of channels, as :func:`archijax.audio.files.read` does it."""
    length = ceil_div(len(sound) * to_rate, sample_rate)
    if channels not in (None, sound.shape[1]) and sound.shape[1] > 1:
        sound = sound.mean(axis=1, keepdims=True)
    if to_rate != sample_rate:
        import soxr

        sound = soxr.resample(sound, sample_rate, to_rate)[:length]
        sound = np.pad(sound, ((0, length - len(sound)), (0, 0)))
    if channels not in (None, sound.shape[1]):
        sound = sound.repeat(channels, axis=1)
    return np.ascontiguousarray(sound, np.float32)


class Source:
    """A sound as it is and as the model takes it.

    Attributes:
        sound: [n, channels] at `sample_rate` Hz.
        audio: [time, channels] at the model's rate and channels, brought to the loudness of its training sounds.
        gain: what it was multiplied by.
    """

    def __init__(self, sound: np.ndarray, sample_rate: int, pipeline: Any):
        self.sound, self.sample_rate, self.model_rate = sound, sample_rate, pipeline.config.sample_rate
        audio = converted(sound, sample_rate, self.model_rate, pipeline.channels)
        self.gain = pipeline.gain(audio)
        self.audio = audio * self.gain

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.sound) / self.sample_rate

    def region(self, begin: int, end: int) -> slice:
        """Samples of `audio` around [begin, end), beginning where the two rates' grids meet."""
        stride = self.model_rate // math.gcd(self.model_rate, self.sample_rate)
        return slice(max(0, begin) // stride * stride, min(len(self.audio), end))

    def restored(self, audio: np.ndarray, region: slice) -> tuple[int, np.ndarray]:
        """(first sample, sound) at the sound's own rate, channels and loudness, of audio from a region on."""
        first = region.start * self.sample_rate // self.model_rate
        sound = audio / self.gain
        if self.sample_rate != self.model_rate:
            import soxr

            sound = soxr.resample(sound, self.model_rate, self.sample_rate)
        channels = self.sound.shape[1]
        if sound.shape[1] != channels:
            sound = sound.mean(axis=1, keepdims=True).repeat(channels, axis=1)
        return first, sound.astype(np.float32)
