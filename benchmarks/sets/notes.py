"""Single notes: each instrument over four octaves at three velocities, four seconds each."""

from collections.abc import Iterator

import numpy as np
import soxr

from benchmarks.sets import synthesizer
from benchmarks.sets.captions import LONG, LOUD, SHORT, SOFT, choose, spelled, varied
from benchmarks.sets.folder import Sound
from benchmarks.sets.instruments import INSTRUMENTS, Instrument, note_name
from benchmarks.sets.midi import Note
from benchmarks.sets.split import part

SECONDS = 4.0
GAP, LEAD = 0.1, 0.02  # between two notes of one rendering, and before the onset of each; in seconds
FADE = 0.02
# The velocity that is played, and the peak that the sound is brought to.
STRENGTHS = {"soft": (45, 0.2), "medium": (80, 0.4), "loud": (115, 0.7)}
DURATIONS, SHARES = (0.5, 1.0, 2.0, 3.0), (0.1, 0.2, 0.3, 0.4)
SILENT = 1e-4
CAPTIONS = 8
TEMPLATES = (
    "a {soft} {instrument} playing {note}",
    "{note} on a {instrument}, {played}",
    "{instrument}, {note}, {soft}",
    "{instrument} {note}",
    "a {instrument} plays the note {note} {softly}",
    "a {long} {note} from a {instrument}, {soft}",
    "a {long} {soft} note of a {instrument} at {note}",
    "a single {long} note, {note}, of a {soft} {instrument}",
)


def notes(font: str, rate: int, channels: int, instruments: tuple[Instrument, ...] = INSTRUMENTS) -> Iterator[Sound]:
    """Notes of each instrument, rendered one instrument at a time.

    Args:
        font: `synthesizer.soundfont` tells what it may be.
        rate: Hz.
        channels: 1 or 2.
        instruments: which.

    Raises:
        InputError: fluidsynth or the soundfont is missing, or has not the instrument.
    """
    path = synthesizer.soundfont(font)
    for instrument in instruments:
        rng = np.random.default_rng(instrument.program)
        places = [(pitch, strength) for strength in STRENGTHS for pitch in instrument.pitches]
        durations = rng.choice(DURATIONS, size=len(places), p=SHARES)
        starts = np.arange(len(places)) * (SECONDS + GAP)
        played = [
            Note(start + LEAD, duration, pitch, STRENGTHS[strength][0])
            for start, duration, (pitch, strength) in zip(starts, durations, places, strict=True)
        ]
        audio = synthesizer.render(played, path, instrument.program, silences=starts + SECONDS)
        for (pitch, strength), duration, clip in zip(
            places, durations, cut(audio, starts, rate, channels), strict=True
        ):
            level = np.abs(clip).max()
            if level < SILENT:
                continue  # the font has no sample there
            split = part("note", instrument.program, pitch)
            yield Sound(
                name=f"{split}/{instrument.folder}/{pitch:03d}_{strength}",
                audio=clip * (STRENGTHS[strength][1] / level),
                fields={
                    "instrument": instrument.name,
                    "program": instrument.program,
                    "pitch": pitch,
                    "note": note_name(pitch),
                    "velocity": STRENGTHS[strength][0],
                    "strength": strength,
                    "duration": float(duration),
                    "split": split,
                },
                captions=captions(instrument, pitch, strength, float(duration)),
            )


def cut(
    audio: np.ndarray, starts: np.ndarray, rate: int, channels: int, seconds: float = SECONDS
) -> Iterator[np.ndarray]:
    """Clips [seconds * rate, channels] of a rendering [time, 2] from the starts (seconds) on, faded at the end."""
    if channels == 1:
        audio = audio.mean(axis=1, keepdims=True)
    audio = soxr.resample(audio, synthesizer.RATE, rate)
    length, fade = round(seconds * rate), round(FADE * rate)
    ramp = np.ones((length, 1), np.float32)
    ramp[-fade:, 0] = np.linspace(1, 0, fade)
    for start in starts:
        first = round(start * rate)
        clip = audio[first : first + length]
        yield np.pad(clip, ((0, length - len(clip)), (0, 0))) * ramp


def captions(instrument: Instrument, pitch: int, strength: str, duration: float) -> list[str]:
    """Captions of a note in varied words, the same at every call."""
    rng = np.random.default_rng([instrument.program, pitch, STRENGTHS[strength][0]])
    return varied(rng, TEMPLATES, CAPTIONS, [_words(rng, instrument, pitch, strength, duration) for _ in TEMPLATES])


def _words(rng: np.random.Generator, instrument: Instrument, pitch: int, strength: str, duration: float) -> dict:
    pairs = {"soft": SOFT, "loud": LOUD, "medium": (("", ""),)}[strength]
    soft, softly = pairs[int(rng.integers(len(pairs)))]
    length = SHORT if duration <= DURATIONS[0] else LONG if duration >= DURATIONS[-1] else ("",)
    return {
        "instrument": choose(rng, instrument.names),
        "note": spelled(rng, pitch % 12, pitch // 12 - 1),
        "soft": soft,
        "softly": softly,
        "played": f"played {softly}" if softly else "",
        "long": choose(rng, length),
    }
