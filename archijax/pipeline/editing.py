"""Edits a sound: inpaints a part, samples variations, or extends the sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from archijax.arithmetic import ceil_div
from archijax.errors import InputError, require
from archijax.pipeline.driver import Progress
from archijax.pipeline.generation import Finish, Generation
from archijax.pipeline.latents import kept_rows, rows_of
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings, to_samples
from archijax.pipeline.sounds import Source

FADE = 0.01  # seconds after a joint over which new sound is changed to fit the kept sound
LEVEL = 0.05  # seconds before and after a joint whose levels are compared
# Decibels. A larger change of level at a joint is probably the beginning or the end of a note.
MOST = 6.0


def inpainting(
    loaded: Loaded, settings: SampleSettings, source: Source, start: float, end: float, **options: Any
) -> Generation:
    """Returns a Generation of sounds that differ from the source only from ``start`` to ``end`` (in seconds).

    The sounds have the sample rate and the number of channels of the source.

    Args:
        source: the result of :meth:`archijax.Pipeline.source`.
        options: arguments of :class:`Generation`: prompts and items (both required), batch_size, num_resamples and
            conditions.

    Raises:
        InputError: the part from ``start`` to ``end`` is not in the sound, or contains no sample.
    """
    config = loaded.config
    if not 0 <= start < end <= source.seconds:
        raise InputError(
            f"start is {start:g} and end is {end:g}: they must be in order and within the {source.seconds:g} s of the "
            "sound."
        )
    part = slice(round(start * source.sample_rate), round(end * source.sample_rate))
    if part.start == part.stop:
        raise InputError(
            f"The part from {start:g} to {end:g} s has no sample at {source.sample_rate} Hz: choose a longer one."
        )
    # The region is in samples of the model. It has a training length before the part and a training length after it.
    begin = math.floor(part.start * config.sample_rate / source.sample_rate)
    stop = math.ceil(part.stop * config.sample_rate / source.sample_rate)
    region = _around(loaded, source, begin, stop)
    samples = np.arange(region.start, region.stop)

    def finish(audio: Float[np.ndarray, "time c"], item: int, progress: Progress) -> Float32[np.ndarray, "n channels"]:
        first, sound = source.restored(audio, region)
        known = source.sound[first : first + len(sound)]
        sound = sound[: len(known)]
        start, behind = part.start - first, len(sound) - (part.stop - first)
        new, backwards = slice(start, len(sound) - behind), (sound[::-1], known[::-1], behind)
        ends = [(new.start, step(sound, known, start, source.sample_rate))] if start else []
        ends += [(new.stop, step(*backwards, source.sample_rate))] if behind else []
        if ends:
            sound = louder(sound, np.interp(np.arange(len(sound)), *zip(*ends, strict=True)), new)
        met(sound, known, start, source.sample_rate)
        met(sound[::-1], known[::-1], behind, source.sample_rate)
        result = source.sound.copy()
        result[part.start : part.start + len(sound[new])] = sound[new]
        return result

    mask = (samples < begin) | (samples >= stop)
    finish = Finish(source.sample_rate, finish)
    numbers = loaded.timing(region.start / config.sample_rate, source.seconds)
    return _edited(loaded, settings, source.audio[region], finish, numbers, mask=mask, **options)


def step(
    sound: Float32[np.ndarray, "n channels"], known: Float32[np.ndarray, "m channels"], joint: int, sample_rate: int
) -> float:
    """Returns how many decibels louder ``known[:joint]`` ends than ``sound[joint:]`` begins. Returns 0 for more than 6
    dB, which is probably the beginning or the end of a note, and 0 if there is no sound before the joint.

    Args:
        sound, known, joint, sample_rate: see :func:`met`.
    """
    length = max(0, min(round(LEVEL * sample_rate), joint, len(sound) - joint))
    if not length:
        return 0.0
    before, after = (
        10 * np.log10(np.mean(np.square(part)) + 1e-10)
        for part in (known[joint - length : joint], sound[joint : joint + length])
    )
    return float(before - after) if abs(before - after) <= MOST else 0.0


def louder(
    sound: Float32[np.ndarray, "n channels"], decibels: Float[np.ndarray, " n"] | float, new: slice
) -> Float32[np.ndarray, "n channels"]:
    """Returns a sound that is louder by ``decibels``, one number or one per sample. If ``sound[new]`` would leave [-1,
    1] then, the whole sound gets only so loud that ``sound[new]`` stays within [-1, 1].
    """
    gain = np.float32(10) ** np.float32(np.asarray(decibels) / 20)
    result = sound * (gain if gain.ndim == 0 else gain[:, None])
    peak = max(1, np.abs(sound[new]).max(initial=0))
    return result * np.float32(min(1, peak / max(np.abs(result[new]).max(initial=0), 1e-9)))


def met(
    sound: Float32[np.ndarray, "n channels"], known: Float32[np.ndarray, "m channels"], joint: int, sample_rate: int
) -> None:
    """Changes ``sound[joint:]`` in place, so that it follows ``known[:joint]`` without a click.

    The difference ``known - sound`` before the joint is mirrored in time, faded out over 10 ms, and added after the
    joint.

    Args:
        sound: the sound [n, channels] to change.
        known: the sound [m, channels] that is kept, with m >= ``joint``.
        joint: the index of the first sample that comes from ``sound``.
        sample_rate: in Hz.
    """
    length = max(0, min(round(FADE * sample_rate), joint, len(sound) - joint))
    fade = np.linspace(1, 0, length, endpoint=False, dtype=np.float32)[:, None]
    sound[joint : joint + length] += fade * (known[joint - length : joint] - sound[joint - length : joint])[::-1]


def _around(loaded: Loaded, source: Source, begin: int, stop: int) -> slice:
    """Returns the region of the source that the model sees: the part from ``begin`` to ``stop``, and the sound around
    the part.

    If the model makes only sounds of one length, the region is not longer than this length.
    """
    length = loaded.config.length
    if not loaded.is_timed:
        return source.region(begin - length, stop + length)
    # A region begins at a multiple of the stride, so it can begin earlier than requested.
    spare = length - (stop - begin) - source.stride
    if spare < 0:
        seconds = (stop - begin) / source.model_rate
        raise InputError(f"The part has {seconds:.4g} s: this model makes less than {loaded.seconds:.4g} s at once.")
    first = max(0, min(begin - spare // 2, len(source.audio) - length + source.stride))
    return source.region(first, min(len(source.audio), first + length - source.stride))


def variation(loaded: Loaded, settings: SampleSettings, source: Source, strength: float, **options: Any) -> Generation:
    """Returns a Generation of variations of the source: noise is added to the source, and the model removes the noise.

    The sounds have the sample rate and the number of channels of the model.

    Args:
        source: the result of :meth:`archijax.Pipeline.source`.
        strength: the amount of noise to add, above 0 and at most 1. Near 0, the variations are similar to the source.
            At 1, the variations are unrelated to the source.
        options: arguments of :class:`Generation`: prompts and items (both required), batch_size and conditions.
    """
    require(0 < strength <= 1, "strength", strength, "above 0 and at most 1")
    finish = Finish(source.model_rate, lambda audio, item, progress: audio / source.gain)
    numbers = loaded.timing(0.0, source.seconds)
    return _edited(loaded, settings, source.audio, finish, numbers, strength=strength, **options)


def _edited(
    loaded: Loaded,
    settings: SampleSettings,
    audio: Float[np.ndarray, "time c"],
    finish: Finish,
    numbers: dict[str, float],
    *,
    mask: Bool[np.ndarray, " time"] | None = None,
    batch_size: int = 16,
    **options: Any,
) -> Generation:
    """Returns the Generation for an edit of ``audio``: either with a strength or with a mask. A latent model edits the
    latents of ``audio``.

    Args:
        audio: the source. If the model makes only sounds of one length, shorter audio is padded with zeros at the end.
        finish: the final processing of the edited audio (see `Finish`).

    Raises:
        InputError: the model makes only sounds of one length, and ``audio`` is longer.
    """
    settings, length = loaded.resolved(settings), len(audio)
    if loaded.is_timed:
        if length > loaded.config.length:
            seconds = length / loaded.config.sample_rate
            raise InputError(f"The sound has {seconds:.4g} s: this model takes at most {loaded.seconds:.4g} s at once.")
        missing = loaded.config.length - length
        audio = np.pad(audio, ((0, missing), (0, 0)))
        mask = None if mask is None else np.pad(mask, (0, missing), constant_values=True)
    rows = rows_of(loaded, settings, batch_size)
    source = rows.encode(audio)

    def decoded(
        sampled: Float[np.ndarray, "n channels"], item: int, progress: Progress
    ) -> Float[np.ndarray, "samples c"]:
        return finish.apply(rows.decode(sampled, item, progress)[:length], item, progress)

    return Generation(
        rows.loaded, settings, length=len(source), source=source, batch_size=batch_size, numbers=numbers,
        mask=None if mask is None else kept_rows(mask, rows.frame),
        finish=Finish(finish.sample_rate, decoded, rows.steps(len(source))), **options,
    )  # fmt: skip


class Extension(Generation):
    """Samples sounds that continue the source, part by part, in constant memory.

    The model samples windows of the training length. The first half of a window is the end of the finished sound, and
    the model inpaints the second half. The result has the sample rate and number of channels of the source, and begins
    with the samples of the source.

    Args:
        source: the result of :meth:`archijax.Pipeline.source`.
        seconds: the number of seconds to add to the source.
        options: the arguments of :class:`Generation` that :func:`inpainting` takes.
    """

    def __init__(
        self, loaded: Loaded, settings: SampleSettings, source: Source, seconds: float,
        *, batch_size: int = 16, **options: Any,
    ):  # fmt: skip
        settings, rate = loaded.resolved(settings), loaded.config.sample_rate
        new, self._timing = to_samples("seconds", seconds, rate), loaded.timing
        rows = rows_of(loaded, settings, batch_size)
        length = rows.loaded.config.length
        self._context, self._frame = length // 2, rows.frame
        # If the source is shorter than the context, the missing samples before the source are sampled too, and dropped.
        context = self._context * rows.frame
        tail, region = source.audio[-context:], source.region(len(source.audio) - context, len(source.audio))
        missing = context - len(tail)
        self._missing, self._hop = ceil_div(missing, rows.frame), length - self._context
        self._rows, self._parts = np.arange(length), ceil_div(ceil_div(new, rows.frame), self._hop)
        self._tail = rows.encode(np.pad(tail, ((missing, 0), (0, 0))))
        # In seconds: the start of the first window, the length of the whole sound, and the step between windows.
        self._begins, self._total = (len(source.audio) - context) / rate, (len(source.audio) + new) / rate
        self._stride = self._hop * rows.frame / rate

        def finish(
            sampled: Float[np.ndarray, "n row"], item: int, progress: Progress
        ) -> Float32[np.ndarray, "samples channels"]:
            # The decoder also gets the rows before the new rows.
            audio = rows.decode(np.concatenate([self._tail, sampled]), item, progress)[missing : context + new]
            before = source.audio[region.start : len(source.audio) - len(tail)]
            first, sound = source.restored(np.concatenate([before, audio]), region)
            joint, known = len(source.sound) - first, source.sound[first:]
            sound = louder(sound, step(sound, known, joint, source.sample_rate), slice(joint, None))
            met(sound, known, joint, source.sample_rate)
            return np.concatenate([source.sound, sound[joint:]])

        super().__init__(
            rows.loaded, settings, source=np.pad(self._tail, ((0, self._hop), (0, 0))), batch_size=batch_size,
            mask=self._kept(self._missing), numbers=self._numbers(0),
            finish=Finish(source.sample_rate, finish, rows.steps(self._context + self._parts * self._hop)), **options,
        )  # fmt: skip
        self.steps += (self._parts - 1) * len(self._batches) * self.settings.num_steps

    def batch(self, items: Sequence[tuple[int, int]], progress: Progress) -> Float[np.ndarray, "n rows channels"]:
        """Returns the new rows [n, rows, channels] of a batch of n items. :mod:`archijax.pipeline.latents` explains
        rows."""
        tail, new = np.repeat(self._tail[None], len(items), axis=0), []
        for part in range(self._parts):
            self.numbers = self._numbers(part)
            window = np.pad(tail, ((0, 0), (0, self._hop), (0, 0)))
            rows = self.sample(items, progress, window, self._kept(0 if part else self._missing), part)
            new.append(rows[:, self._context :])
            tail = rows[:, -self._context :]
        return np.concatenate(new, axis=1)

    def _numbers(self, part: int) -> dict[str, float]:
        return self._timing(max(0.0, self._begins + part * self._stride), self._total)

    def _kept(self, first: int) -> Bool[np.ndarray, " rows"]:
        return (self._rows >= first) & (self._rows < self._context)
