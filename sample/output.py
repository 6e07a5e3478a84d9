"""Writes the output of the sampling programs: a folder of WAV files, each with a picture."""

import itertools
import os
import re
import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from archijax import cli
from archijax.audio import files, plots
from archijax.audio.formats import RATES
from archijax.errors import InputError

LONGEST = 190  # the largest number of bytes in a file name
MUCH = 1e-3  # the share of samples beyond full scale that is audible


class Output:
    """Writes sounds with the sample rate ``sample_rate`` in Hz to a folder. The folder is created if it does not exist.

    Raises:
        InputError: the folder cannot be created or written to, or sound files cannot have this sample rate.
    """

    def __init__(self, folder: Path, sample_rate: int):
        if sample_rate not in RATES:
            raise InputError(f"Sounds of {sample_rate} Hz cannot be written: files have {RATES[0]} to {RATES[-1]} Hz.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A test file shows errors before hours of sampling. Permissions would not show all errors.
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}.") from error
        self.folder, self.sample_rate = folder, sample_rate
        self.written, self.clipped, self.worst = 0, 0, 0.0

    def write(self, name: str, sound: np.ndarray, title: str, tags: dict[str, str], exact: bool = False) -> None:
        """Writes a sound [time, channels] to NAME.wav and a picture to NAME.png, and prints the path of the WAV file.

        With `exact`, all samples are written unchanged, even samples beyond full scale.
        """
        path = self.folder / f"{name}.wav"
        title = textwrap.shorten(title.encode(errors="replace").decode(), 90, placeholder=" …")
        with warnings.catch_warnings():
            # Characters that the font lacks are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            plots.spectrogram(path.with_suffix(".png"), np.clip(sound, -1, 1), self.sample_rate, title)
        # The sound is written last, so that every sound has its picture.
        files.write(path, sound, self.sample_rate, tags, exact=exact)
        beyond = 0.0 if exact else float(np.mean(np.abs(sound) > 1))
        self.written += 1
        self.clipped += beyond > MUCH
        self.worst = max(self.worst, beyond)
        tqdm.write(str(path))

    def tell_clipped(self) -> None:
        """Prints the number of sounds that were clipped audibly."""
        if self.clipped:
            cli.say(
                f"{self.clipped} of {self.written} sounds were louder than full scale and clipped there, up to "
                f"{self.worst:.1%} of their samples. A lower --guidance-scale makes quieter sounds."
            )


def slugs(texts: Sequence[str]) -> list[str]:
    """Returns a distinct file name for each text. Names consist of lower-case letters, digits and dashes, and have
    about 40 characters at most."""
    return distinct(re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "sound" for text in texts)


def distinct(names: Iterable[str]) -> list[str]:
    """Makes names distinct: if several names are equal, all but the first get a number. All names are cut by
    :func:`shortened`."""
    taken: dict[str, None] = {}
    for name in map(shortened, names):
        same = (f"{name}-{number}" for number in itertools.count(2))
        taken[next(each for each in itertools.chain([name], same) if each not in taken)] = None
    return list(taken)


def shortened(name: str) -> str:
    """Cuts a name to 190 bytes. The verb, the seed, numbers and the suffix then still fit into the 255 bytes of a file
    name."""
    return os.fsencode(name)[:LONGEST].decode(errors="ignore") if len(os.fsencode(name)) > LONGEST else name
