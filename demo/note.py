"""A note with its captions and a real recording."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archijax.audio import files

RATE = 16_000  # Hz, of all sounds here
REAL = Path(__file__).parent / "real"


@dataclass(frozen=True, eq=False)
class Note:
    """An instrument, a pitch (MIDI number), captions that describe them, and a real sound [time, 1]."""

    instrument: str
    pitch: int
    captions: tuple[str, ...]
    sound: np.ndarray

    @property
    def prompt(self) -> str:
        """The first caption of the note, which the demo uses as prompt."""
        return self.captions[0]


def bundled() -> list[Note]:
    """Reads the real notes in demo/real."""
    rows = map(json.loads, (REAL / "metadata.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        Note(row["instrument"], row["pitch"], (row["caption"],), files.read(REAL / row["file_name"], sample_rate=RATE))
        for row in rows
    ]
