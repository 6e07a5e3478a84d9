"""Makes sentences spoken by espeak-ng in many voices, on which some small models are trained."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from archijax.atomic import replacing
from archijax.errors import InputError

TRAIN, HELD_OUT = 90, 12  # sentences
VOICES = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp")
VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5")
SUBJECTS = ("the old captain", "a young teacher", "my neighbour's dog", "the evening train", "nobody in the village")
VERBS = ("remembers", "was looking for", "has never heard", "walked slowly towards", "carefully repaired")
OBJECTS = ("the yellow house by the river", "a box of broken clocks", "seven quiet songs", "the road through the hills")
ENDS = ("before the rain began", "as if it were the last time", "because somebody had asked", "and then fell asleep")


def rendered(folder: Path) -> Path:
    """Returns the folder, with WAV files in train/ and heldout/, and writes it if it is missing. It appears when it is
    complete.

    Raises:
        InputError: espeak-ng is not installed.
    """
    if folder.exists():
        return folder
    if shutil.which("espeak-ng") is None:
        raise InputError("espeak-ng is not installed: it makes the speech that these models are trained on.")
    with replacing(folder) as unfinished:
        _render(unfinished)
    return folder


def _render(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(TRAIN + HELD_OUT):
        part = folder / ("train" if number < TRAIN else "heldout")
        part.mkdir(parents=True, exist_ok=True)
        words = " ".join(str(rng.choice(choice)) for choice in (SUBJECTS, VERBS, OBJECTS, ENDS))
        voice, speed, pitch = rng.choice(VOICES) + rng.choice(VARIANTS), rng.integers(120, 190), rng.integers(20, 80)
        command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(part / f"{number:03d}.wav")]
        subprocess.run([*command, words], check=True)
