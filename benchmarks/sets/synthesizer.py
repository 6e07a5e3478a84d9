"""Renders notes as sound, by the program fluidsynth and a General MIDI soundfont."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile as sf

from archijax.errors import InputError
from benchmarks.sets import midi

RATE = 48_000
# Debian packages and their soundfont files.
FONTS = {
    "fluid-soundfont-gm": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "musescore-general-soundfont": Path("/usr/share/sounds/sf3/MuseScore_General_Full.sf3"),
}
# fluidsynth prints these messages, plays another font or instrument, and still ends with status 0.
COMPLAINT = re.compile(r"error:.*|.*not a SoundFont.*|.*[Ii]nstrument not found.*|.*[Ff]ailed to load.*")


def soundfont(font: str) -> Path:
    """Returns the path of a soundfont's file.

    Args:
        font: the name of a Debian package in FONTS, or the path of a file.

    Raises:
        InputError: the soundfont is neither installed nor a file.
    """
    path = FONTS.get(font, Path(font))
    if path.is_file():
        return path
    if font in FONTS:
        raise InputError(f"The soundfont {path} is not there: install it with apt-get install {font}.")
    raise InputError(f"There is no soundfont {font}: give a file, or one of {', '.join(FONTS)}.")


def render(
    notes: Iterable[midi.Note],
    font: Path,
    program: int,
    channel: int = 0,
    silences: Iterable[float] = (),
) -> np.ndarray:
    """Renders sound [time, 2] at 48 kHz, without reverberation and chorus. For the arguments, see `midi.write`.

    Raises:
        InputError: fluidsynth is not installed, or it cannot play the font or the program.
    """
    if not shutil.which("fluidsynth"):
        raise InputError("The program fluidsynth is not there: install it with apt-get install fluidsynth.")
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        midi.write(score, notes, program, channel, silences)
        # Without the last option, fluidsynth decodes the whole compressed font, which takes longer than playing.
        plain = ("-ni", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-o", "synth.dynamic-sample-loading=1")
        command = ["fluidsynth", *plain, "-r", str(RATE), "-O", "float", "-F", str(sound), str(font), str(score)]
        done = subprocess.run(command, capture_output=True, text=True)
        complaint = COMPLAINT.search(done.stderr + done.stdout)
        if done.returncode or complaint or not sound.exists():
            told = complaint.group(0) if complaint else f"exit status {done.returncode}"
            raise InputError(f"fluidsynth cannot play program {program} of {font}: {told.strip()}")
        return sf.read(sound, dtype="float32", always_2d=True)[0]
