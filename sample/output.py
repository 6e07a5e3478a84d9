"""Where the sampling programs put sounds: a folder of WAV files, each with a picture."""

import itertools
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
from archijax.errors import InputError

MUCH = 1e-3  # of the samples beyond full scale is audible


class Output:
    """A folder for sounds of one sample rate (Hz), made when missing.

    Raises:
        InputError: it cannot be made, or not be written to.
    """

    def __init__(self, folder: Path, sample_rate: int):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # To know before hours of sampling; what permissions say is not all that can be wrong.
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror}.") from error
        self.folder, self.sample_rate = folder, sample_rate
        self.written, self.clipped, self.worst = 0, 0, 0.0

    def write(self, name: str, sound: np.ndarray, title: str, tags: dict[str, str], exact: bool = False) -> None:
        """Writes `sound` [time, channels] as NAME.wav and its picture as NAME.png; prints the path of the first.

        With `exact` its samples are written as they are, also those beyond full scale.
        """
        path = self.folder / f"{name}.wav"
        title = textwrap.shorten(title, 90, placeholder=" …")
        with warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            plots.spectrogram(path.with_suffix(".png"), np.clip(sound, -1, 1), self.sample_rate, title)
        # Last: a sound that is there has its picture.
        files.write(path, sound, self.sample_rate, tags, exact=exact)
        beyond = 0.0 if exact else float(np.mean(np.abs(sound) > 1))
        self.written += 1
        self.clipped += beyond > MUCH
        self.worst = max(self.worst, beyond)
        tqdm.write(str(path))

    def tell_clipped(self) -> None:
        """Says so if sounds went beyond full scale for long enough to be audible."""
        if self.clipped:
            cli.say(
                f"{self.clipped} of {self.written} sounds were louder than full scale and clipped there, up to "
                f"{self.worst:.1%} of their samples."
            )


def slugs(texts: Sequence[str]) -> list[str]:
    """Texts as parts of files' names, no two alike: letters and digits, small, with dashes between; about 40."""
    return distinct(re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "sound" for text in texts)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, numbered from the second on where several are alike."""
    taken: dict[str, None] = {}
    for name in names:
        same = (f"{name}-{number}" for number in itertools.count(2))
        taken[next(each for each in itertools.chain([name], same) if each not in taken)] = None
    return list(taken)
