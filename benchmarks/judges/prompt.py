"""Finds the pitch, instrument, tempo and key in a prompt."""

import re

from benchmarks.sets.instruments import INSTRUMENTS

_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_PITCH = re.compile(r"\b([A-G])(?:(#|b)| (sharp|flat)\b)? ?(-?\d)\b")
_KEY = re.compile(r"\b([A-G])(?:(#|b)| (sharp|flat))? (major|minor)\b(?! chord| seventh)")
_TEMPO = re.compile(r"\b(\d{2,3}) ?(?:BPM|bpm|beats per minute)")
# Longer names come first, so that "bass guitar" is not read as "guitar".
_NAMES = sorted(((name, i.name) for i in INSTRUMENTS for name in i.names), key=lambda pair: -len(pair[0]))


def fields(prompt: str) -> dict[str, object]:
    """Returns what a prompt names of: "pitch" (MIDI number), "instrument" (first name), "tempo" (BPM), "key"."""
    asked: dict[str, object] = {}
    if found := _PITCH.search(prompt):
        letter, sign, word, octave = found.groups()
        asked["pitch"] = 12 * (int(octave) + 1) + _pitch_class(letter, sign or word)
    if found := _KEY.search(prompt):
        letter, sign, word, mode = found.groups()
        asked["key"] = f"{_NAMES_OF_CLASSES[_pitch_class(letter, sign or word) % 12]} {mode}"
    if found := _TEMPO.search(prompt):
        asked["tempo"] = int(found.group(1))
    for name, first in _NAMES:
        if re.search(rf"\b{re.escape(name)}\b", prompt, re.IGNORECASE):
            asked["instrument"] = first
            break
    return asked


_NAMES_OF_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def _pitch_class(letter: str, sign: str | None) -> int:
    return _CLASSES[letter] + {None: 0, "#": 1, "sharp": 1, "b": -1, "flat": -1}[sign]
