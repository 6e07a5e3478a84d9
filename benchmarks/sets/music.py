"""Reads whole pieces of music for measurements: Max McCracken's music for the game Singularity."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from archijax.errors import InputError
from benchmarks.sets.folder import Sound

PIECES = Path("/usr/share/games/singularity/music")  # Debian's singularity-music


def music(rate: int, channels: int) -> Iterator[Sound]:
    """Yields the pieces, none of which is for training.

    Args:
        rate: the sample rate in Hz.
        channels: the number of channels, 1 or 2.

    Raises:
        InputError: the Debian package is missing.
    """
    if not PIECES.is_dir():
        raise InputError(f"{PIECES} is not there: install it with apt-get install singularity-music.")
    for path in sorted(PIECES.glob("**/*.ogg")):
        audio, native = sf.read(path, dtype="float32", always_2d=True)
        if channels == 1:
            audio = audio.mean(axis=1, keepdims=True)
        elif audio.shape[1] == 1:
            audio = np.repeat(audio, 2, axis=1)
        name = path.stem.lower().replace(" ", "_")
        fields = {"title": path.stem, "artist": "Max McCracken", "split": "heldout"}
        yield Sound(f"heldout/{name}", soxr.resample(audio, native, rate), fields)
