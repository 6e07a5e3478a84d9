"""Finds which pitch and instrument two judges hear in the demo's sounds, and whether both match the prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.judges import instrument
from benchmarks.judges.pitch import pitch
from benchmarks.sets.instruments import note_name
from demo.note import RATE, Note

NEAR = 0.5  # the largest error of a correct pitch, in semitones
# The instruments of the bundled model.
KNOWN = (
    "grand piano", "electric piano", "harpsichord", "music box", "vibraphone", "marimba", "church organ", "accordion",
    "nylon guitar", "electric guitar", "distorted guitar", "acoustic bass", "electric bass", "synth bass", "violin",
    "cello", "pizzicato strings", "harp", "strings", "choir", "trumpet", "trombone", "alto saxophone", "oboe",
    "clarinet", "flute", "recorder", "kalimba",
)  # fmt: skip
OTHER = "other"


class Heard(NamedTuple):
    """What the judges heard in a sound, and what its prompt asked for. Pitches are MIDI numbers; the heard pitch has a
    fraction."""

    asked: Note
    pitch: float
    instrument: str

    @property
    def right_pitch(self) -> bool:
        return abs(self.pitch - self.asked.pitch) < NEAR

    @property
    def right_instrument(self) -> bool:
        return self.instrument == self.asked.instrument

    @property
    def right(self) -> bool:
        return self.right_pitch and self.right_instrument

    def __str__(self) -> str:
        if np.isnan(self.pitch):
            return f"no pitch, {self.instrument}"
        near = round(self.pitch)
        return f"{note_name(near)} {100 * (self.pitch - near):+.0f} cents, {self.instrument}"


class Judge(NamedTuple):
    """A judge that names the instrument of a sound."""

    classifier: instrument.Classifier
    among: tuple[str, ...]

    def instrument(self, sound: np.ndarray) -> str:
        """Returns the name of the instrument that the judge hears in a sound [time, 1]."""
        return self.classifier.heard(sound, RATE, self.among)

    def hear(self, sounds: Sequence[np.ndarray], asked: Sequence[Note]) -> list[Heard]:
        """Judges pitch and instrument of each sound, and returns the results together with the prompts."""
        return [
            Heard(note, pitch(sound, RATE).midi, self.instrument(sound))
            for sound, note in zip(sounds, asked, strict=True)
        ]


def of_known() -> Judge:
    """Returns a judge that was fitted on many notes of the instruments that the bundled model plays."""
    return Judge(instrument.load(), KNOWN)


def of_new(name: str, own: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Judge:
    """Fits a judge that distinguishes the instrument `name`, whose sounds are `own`, from the sounds `others`."""
    seen = np.array([instrument.features(sound, RATE) for sound in (*own, *others)], np.float32)
    labels = [name] * len(own) + [OTHER] * len(others)
    return Judge(instrument.fit(seen, labels, epochs=200), (name, OTHER))
