"""Loads the input sounds of a pipeline. Converts sounds to the sample rate, channels and loudness of a model, and
back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Real

from archijax.arithmetic import ceil_div
from archijax.audio.channels import mix
from archijax.errors import InputError
from archijax.pipeline.loaded import Loaded

Sound = str | Path | np.ndarray
"""The path of a file, or an array [time, channels] or [time] with a sample rate as a separate argument."""

Audio = Float32[np.ndarray, "time c"]


class Recording(NamedTuple):
    """Holds a sound before it is converted for a model.

    Attributes:
        sound: the samples [time, c].
        sample_rate: in Hz.
        layout: the speaker of each channel, such as ("FL", "FR"); None: unknown.
        name: the name of the file, for messages.
    """

    sound: Audio
    sample_rate: int
    layout: tuple[str, ...] | None = None
    name: str = "the sound"


def load_sound(sound: Sound, sample_rate: int | None = None) -> Recording:
    """Returns the Recording of a sound file, or of an array [time, channels] or [time] with a sample rate in Hz.

    Raises:
        InputError: the file does not exist or holds no sound, the array is not finite or has a wrong shape, or its
            sample rate is missing.
    """
    if isinstance(sound, str | Path):
        from archijax.audio import files

        header = files.info(sound)
        return Recording(files.read(sound), header.sample_rate, header.layout, str(sound))
    array = np.asarray(sound, np.float32)
    array = array[:, None] if array.ndim == 1 else array
    if sample_rate is None:
        raise InputError("the sample rate of the sound is missing: pass sample_rate in Hz")
    if array.ndim != 2 or not array.size:
        raise InputError(f"the sound has shape {np.shape(sound)}: it must be [time, channels] and not empty")
    if not np.isfinite(array).all():
        raise InputError("the sound holds samples that are not finite (NaN or infinity)")
    return Recording(array, sample_rate)


def converted(recording: Recording, to_rate: int, channels: int | None) -> Audio:
    """Returns a recording as an array [n, channels] with the sample rate ``to_rate`` in Hz. If ``channels`` is None,
    the number of channels does not change.

    For a recording [time, c], n is ``ceil(time * to_rate / sample_rate)``. With the same sample rate and number of
    channels, `archijax.audio.files.read` returns the same result.
    """
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
    """Holds a recording before and after the conversion for a loaded model.

    Attributes:
        sound: the sound [n, channels] before conversion.
        sample_rate: the sample rate of ``sound``, in Hz.
        audio: the sound [time, channels] with the model's sample rate and number of channels, and the loudness of the
            training sounds.
        model_rate: the sample rate of ``audio``, in Hz.
        gain: the factor that gave ``audio`` the loudness of the training sounds.
    """

    def __init__(self, recording: Recording, loaded: Loaded):
        self.sound, self.sample_rate = recording.sound, recording.sample_rate
        self.model_rate = loaded.config.sample_rate
        audio = converted(recording, self.model_rate, loaded.channels)
        self.gain = loaded.gain(audio)
        self.audio = audio * self.gain

    @property
    def seconds(self) -> float:
        """Returns the length of the sound in seconds."""
        return len(self.sound) / self.sample_rate

    @property
    def stride(self) -> int:
        """Returns the smallest number of samples of ``audio`` whose duration is a whole number of samples of
        ``sound``."""
        return self.model_rate // math.gcd(self.model_rate, self.sample_rate)

    def region(self, begin: int, end: int) -> slice:
        """Returns a slice of ``audio`` from ``begin``, rounded down to a multiple of :attr:`stride`, to ``end``."""
        return slice(max(0, begin) // self.stride * self.stride, min(len(self.audio), end))

    def restored(
        self, audio: Real[np.ndarray, "time c"], region: slice
    ) -> tuple[int, Float32[np.ndarray, "n channels"]]:
        """Converts audio back to the sample rate, number of channels and loudness of ``sound``.

        Args:
            audio: a sound whose first sample is at the beginning of ``region``.
            region: a slice of :attr:`audio`, which is a result of :meth:`region`.

        Returns:
            (the index in ``sound`` at which the converted sound begins, the converted sound).
        """
        first = region.start * self.sample_rate // self.model_rate
        sound = audio / self.gain
        if self.sample_rate != self.model_rate:
            import soxr

            sound = soxr.resample(sound, self.model_rate, self.sample_rate)
        channels = self.sound.shape[1]
        if sound.shape[1] != channels:
            sound = sound.mean(axis=1, keepdims=True).repeat(channels, axis=1)
        return first, sound.astype(np.float32)
