"""Composes random short pieces by rules: chords, melodies, arpeggios, progressions, drum loops."""

from collections.abc import Sequence

import numpy as np

from benchmarks.sets.midi import Note

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Semitones above the root.
CHORDS = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "diminished": (0, 3, 6),
    "augmented": (0, 4, 8),
    "suspended fourth": (0, 5, 7),
    "major seventh": (0, 4, 7, 11),
    "minor seventh": (0, 3, 7, 10),
    "dominant seventh": (0, 4, 7, 10),
}
# The scale degrees of a progression, one per half bar or bar.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 0), (1, 4, 0, 0), (5, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 6), (0, 3, 0, 6), (5, 6, 0, 0)),
}
RHYTHMS = ((1, 1, 1, 1), (0.5, 0.5, 1, 1, 1), (1, 0.5, 0.5, 2), (1.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5, 1, 1), (2, 1, 1))
STROKES = ((0, 4), (0, 2), (0, 1, 2, 3), (0, 1.5, 3), (0, 1.5, 2.5))  # beats of a bar; the first is one held chord
TURNS = ("up", "down", "up and down")
# A bar of four beats in sixteenths, for bass drum, snare, closed and open hi-hat and others; 1 to 9 is the strength.
DRUMS = {"kick": 36, "rim": 37, "snare": 38, "clap": 39, "hat": 42, "open": 46, "ride": 51, "tom": 45, "conga": 63}
GROOVES = {
    "rock": {"kick": "9.......9.7.....", "snare": "....9.......9...", "hat": "7.5.7.5.7.5.7.5."},
    "disco": {
        "kick": "9...9...9...9...",
        "clap": "....8.......8...",
        "open": "..7...7...7...7.",
        "hat": "6.......6.......",
    },
    "funk": {"kick": "9..7..9...7.....", "snare": "....9..4.4..9..4", "hat": "7575757575757575"},
    "hip hop": {"kick": "9......79.7.....", "snare": "....9.......9...", "hat": "7.7.7.7.7.7.7757"},
    "bossa nova": {"kick": "9..79..79..79..7", "rim": "8..8..8...8..8..", "hat": "6565656565656565"},
    "swing": {"kick": "7.......7.......", "ride": "9...9..79...9..7", "hat": "....7.......7..."},
    "house": {
        "kick": "9...9...9...9...",
        "clap": "....8.......8...",
        "hat": "..8...8...8...8.",
        "open": "..............7.",
    },
    "drum and bass": {"kick": "9.........9.....", "snare": "....9.......9..7", "hat": "7.5.7.5.7.5.7.5."},
    "reggae": {"kick": "........9.......", "rim": "........9.......", "hat": "..8...8...8...8."},
    "latin": {"kick": "9..7....9..7....", "conga": "7.77.7.77.77.7.7", "rim": "8..8...8..8.8..."},
}


def chord(rng: np.random.Generator, root: int, quality: str, pitches: Sequence[int], seconds: float) -> list[Note]:
    """Composes a held chord on a root (0 is C), in a random inversion within the range of the instrument."""
    classes = {(root + step) % 12 for step in CHORDS[quality]}
    usable = [pitch for pitch in pitches if pitch % 12 in classes]
    size = len(CHORDS[quality])
    first = int(rng.integers(max(1, len(usable) - size)))
    velocity = int(rng.integers(60, 115))
    return [Note(0.0, seconds, pitch, velocity) for pitch in usable[first : first + size]]


def melody(
    rng: np.random.Generator, root: int, mode: str, pitches: Sequence[int], beat: float, seconds: float
) -> list[Note]:
    """Composes a melody in a key, with two rhythms in turn. Long notes are chord notes; others walk along the scale."""
    scale = [pitch for pitch in pitches if (pitch - root) % 12 in SCALES[mode]]
    degrees = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
    rhythms = [RHYTHMS[int(i)] for i in rng.choice(len(RHYTHMS), 2, replace=False)]
    place, time, bar, notes = len(scale) // 2 + int(rng.integers(-3, 4)), 0.0, 0, []
    while time < seconds:
        members = _members(root, mode, degrees[bar % len(degrees)])
        for length in rhythms[bar % 2]:
            place = _turned(place + int(rng.choice([-2, -1, 1, 2], p=[0.15, 0.35, 0.35, 0.15])), len(scale))
            if length >= 1:
                place = min(range(len(scale)), key=lambda i: (scale[i] % 12 not in members, abs(i - place)))
            notes.append(Note(time, 0.9 * length * beat, scale[place], int(rng.integers(75, 110))))
            time += length * beat
        bar += 1
    return _within(notes, seconds)


def arpeggio(
    rng: np.random.Generator, root: int, mode: str, pitches: Sequence[int], beat: float, seconds: float
) -> list[Note]:
    """Composes broken chords in a key, in eighths or sixteenths, which go up, down, or up and down."""
    degrees = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
    step, size = (0.25, 0.5)[int(rng.integers(2))], int(rng.integers(3, 6))
    turn, notes = TURNS[int(rng.integers(len(TURNS)))], []
    for index in range(int(np.ceil(seconds / (step * beat)))):
        members = _members(root, mode, degrees[int(index * step // 4) % len(degrees)])
        rising = [pitch for pitch in pitches if pitch % 12 in members][:size]
        walk = {"up": rising, "down": rising[::-1], "up and down": rising + rising[-2:0:-1]}[turn]
        velocity = 100 if index * step % 1 == 0 else 80
        notes.append(Note(index * step * beat, step * beat, walk[index % len(walk)], velocity))
    return _within(notes, seconds)


def progression(
    rng: np.random.Generator, root: int, mode: str, pitches: Sequence[int], beat: float, seconds: float
) -> list[Note]:
    """Composes chords in a key, one chord per bar, with the same rhythm in each bar."""
    degrees = PROGRESSIONS[mode][int(rng.integers(len(PROGRESSIONS[mode])))]
    strokes, notes = STROKES[int(rng.integers(len(STROKES)))], []
    strokes = [stroke for stroke in strokes if stroke < 4]
    for bar in range(int(np.ceil(seconds / (4 * beat)))):
        members = _members(root, mode, degrees[bar % len(degrees)])
        voiced = [pitch for pitch in pitches if pitch % 12 in members][:4]
        for start, end in zip(strokes, [*strokes[1:], 4], strict=True):
            velocity = int(rng.integers(75, 105))
            notes += [Note((4 * bar + start) * beat, 0.95 * (end - start) * beat, pitch, velocity) for pitch in voiced]
    return _within(notes, seconds)


def drums(rng: np.random.Generator, groove: str, beat: float, seconds: float) -> list[Note]:
    """Repeats a drum groove. The strength of the hits varies slightly."""
    notes = []
    for index in range(int(np.ceil(seconds / (beat / 4)))):
        for drum, bar in GROOVES[groove].items():
            if (hard := bar[index % 16]) != ".":
                velocity = int(np.clip(int(hard) * 13 + rng.integers(-6, 7), 1, 127))
                notes.append(Note(index * beat / 4, beat / 4, DRUMS[drum], velocity))
    return _within(notes, seconds)


def _members(root: int, mode: str, degree: int) -> set[int]:
    """Returns the pitch classes of the chord on a scale degree."""
    return {(root + SCALES[mode][(degree + third) % 7]) % 12 for third in (0, 2, 4)}


def _turned(place: int, size: int) -> int:
    """Reflects a position at the ends of a scale of `size` notes."""
    return abs(place) if place < size else 2 * (size - 1) - place


def _within(notes: list[Note], seconds: float) -> list[Note]:
    return [note for note in notes if note.start < seconds - 0.05]
