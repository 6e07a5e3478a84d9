"""A synthetic instrument that no model was trained on: 36 notes, of which 12 have held-out pitches.

The instrument's partials are the 1st, 4th, 7th ... harmonic of the pitch. No orchestral instrument has this spectrum.
Each note swells and becomes brighter over a second, and its upper partials beat.
"""

from pathlib import Path

import numpy as np

from archijax.atomic import replacing
from archijax.audio import files
from benchmarks.sets.instruments import Instrument
from benchmarks.sets.notes import STRENGTHS, captions
from demo.note import RATE, Note

NAME = "zambel"  # a word without a meaning, whose token no other word of the captions has
PITCHES = range(45, 81)  # A2 to G#5
SECONDS = 4.0
HELD = 3.0  # length of a note in seconds
BEATS = 5.0  # Hz


def notes() -> tuple[list[Note], list[Note]]:
    """Returns (24 training notes, 12 held-out notes). Of every three successive pitches, one is held out."""
    rng = np.random.default_rng(0)
    words = Instrument(128, PITCHES[0], (NAME,))  # the first number beyond General MIDI
    train, held_out = [], []
    for first in PITCHES[::3]:
        left_out = first + int(rng.integers(3))
        for pitch in range(first, first + 3):
            strength = str(rng.choice(list(STRENGTHS)))
            audio = STRENGTHS[strength][1] * sound(pitch)
            note = Note(NAME, pitch, tuple(captions(words, pitch, strength, HELD)), audio)
            (held_out if pitch == left_out else train).append(note)
    return train, held_out


def sound(pitch: int) -> np.ndarray:
    """Synthesizes the note with a MIDI number: [time, 1], with peak 1."""
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    time = np.arange(round(SECONDS * RATE)) / RATE
    # Partials above this frequency are weaker.
    bright = hertz * (6 + 14 * np.clip(time, 0, 1))
    audio = np.zeros_like(time)
    for number in range(1, int(0.45 * RATE / hertz) + 1, 3):
        level = number**-0.5 / (1 + (number * hertz / bright) ** 4)
        if number > 1:
            level = level * (1 + 0.7 * np.cos(2 * np.pi * BEATS * time))
        audio += level * np.sin(2 * np.pi * number * hertz * time)
    envelope = np.clip(np.minimum(time / 0.12, (HELD + 0.2 - time) / 0.2), 0, 1)
    audio *= 0.5 - 0.5 * np.cos(np.pi * envelope)
    return np.float32(audio / np.abs(audio).max())[:, None]


def write(folder: Path, some: list[Note]) -> None:
    """Writes notes to a new folder, each with a text file of captions, one per line. An existing folder stays
    unchanged."""
    if folder.exists():
        return
    with replacing(folder) as unfinished:
        unfinished.mkdir()
        for number, note in enumerate(some):
            path = unfinished / f"{number:03d}.flac"
            files.write(path, note.sound, RATE)
            path.with_suffix(".txt").write_text("\n".join(note.captions))
