"""Sounds that a pipeline takes: files or arrays, brought to a model's sample rate, channels and loudness and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.audio.channels import mix
from archijax.errors import InputError
from archijax.pipeline.loaded import Loaded

Sound = str | Path | np.ndarray
"""A file, or an array [time, channels] (or [time]) whose sample rate is said beside it."""


class Recording(NamedTuple):
    """A sound as it is.

    Attributes:
        sound: float32 [time, channels].
        sample_rate: in Hz.
        layout: the speaker of each channel, None where it is not known.
        name: of its file, for what is said about it.
    """

    sound: np.ndarray
    sample_rate: int
    layout: tuple[str, ...] | None = None
    name: str = "the sound"


def load_sound(sound: Sound, sample_rate: int | None = None) -> Recording:
    """The recording in a file, or of an array of this sample rate (Hz).

    Raises:
        InputError: no such file, not sound, not finite, or an array without its sample rate.
    """
    if isinstance(sound, str | Path):
        from archijax.audio import files

        header = files.info(sound)
        return Recording(files.read(sound), header.sample_rate, header.layout, str(sound))
    array = np.asarray(sound, np.float32)
    array = array[:, None] if array.ndim == 1 else array
    if sample_rate is None:
        raise InputError("the sample rate of the sound is missing: give sample_rate in Hz")
    if array.ndim != 2 or not array.size:
        raise InputError(f"the sound has shape {np.shape(sound)}: [time, channels] is needed, and not empty")
    if not np.isfinite(array).all():
        raise InputError("the sound holds samples that are not finite (NaN or infinity)")
    return Recording(array, sample_rate)


def converted(recording: Recording, to_rate: int, channels: int | None) -> np.ndarray:
    """Its sound [time, channels] at another rate and number of channels, as `files.read` gives it."""
    sound, sample_rate, layout, name = recording
    channels = channels or sound.shape[1]
    length = ceil_div(len(sound) * to_rate, sample_rate)
    if channels < sound.shape[1]:
        sound = mix(sound, channels, layout, name)
    if to_rate != sample_rate:
        import soxr

        sound = soxr.resample(sound, sample_rate, to_rate)[:length]
        sound = np.pad(sound, ((0, length - len(sound)), (0, 0)))
    return np.ascontiguousarray(mix(sound, channels, layout, name), np.float32)


class Source:
    """A sound as it is and as the model takes it.

    Attributes:
        sound: [n, channels] at `sample_rate` Hz.
        audio: [time, channels] at the model's rate and channels, brought to the loudness of its training sounds.
        gain: what it was multiplied by.
    """

    def __init__(self, recording: Recording, loaded: Loaded):
        self.sound, self.sample_rate = recording.sound, recording.sample_rate
        self.model_rate = loaded.config.sample_rate
        audio = converted(recording, self.model_rate, loaded.channels)
        self.gain = loaded.gain(audio)
        self.audio = audio * self.gain

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.sound) / self.sample_rate

    @property
    def stride(self) -> int:
        """Samples of the model's from one place where the two rates' grids meet to the next."""
        return self.model_rate // math.gcd(self.model_rate, self.sample_rate)

    def region(self, begin: int, end: int) -> slice:
        """Samples of `audio` around [begin, end), beginning where the two rates' grids meet."""
        return slice(max(0, begin) // self.stride * self.stride, min(len(self.audio), end))

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
