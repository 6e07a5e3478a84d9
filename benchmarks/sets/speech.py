"""Reads spoken sentences: a Russian voice with transcripts for training, and an Italian voice only for tests."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from archijax.errors import InputError
from benchmarks.sets.folder import Sound
from benchmarks.sets.split import part

VOICE = Path("/usr/share/festival/voices/russian/msu_ru_nsh_clunits")  # Debian's festvox-ru
PROMPTS = Path("/usr/share/asterisk/sounds/it_IT_m_Carlo")  # Debian's asterisk-core-sounds-it-g722
LINE = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')
RATE = 16_000  # Hz, of both voices
SHORTEST = 1.0  # seconds
TONES = re.compile(r"tone|beep|silence|ring|monkeys")  # prompts without speech


def speech(rate: int, channels: int) -> Iterator[Sound]:
    """Yields sentences of both voices.

    Args:
        rate: the sample rate in Hz.
        channels: the number of channels: 1, or 2 equal ones.

    Raises:
        InputError: one of the Debian packages or ffmpeg is missing.
    """
    yield from _sentences(rate, channels)
    yield from _prompts(rate, channels)


def _sentences(rate, channels) -> Iterator[Sound]:
    transcripts = _needed(VOICE / "etc" / "txt.done.data", "festvox-ru").read_text(encoding="utf-8")
    # The plus signs before stressed vowels are for the synthesis, not for reading.
    texts = {name: text.replace("+", "") for name, text in LINE.findall(transcripts)}
    for path in sorted((VOICE / "wav").glob("*.wav")):
        if path.stem in texts:
            audio, native = sf.read(path, dtype="float32")
            split, text = part("sentence", path.stem), texts[path.stem]
            fields = {"speaker": "nsh", "language": "ru", "text": text, "split": split}
            yield _sound(f"{split}/ru/{path.stem}", audio, native, rate, channels, fields, (text,))


def _prompts(rate, channels) -> Iterator[Sound]:
    for path in sorted(_needed(PROMPTS, "asterisk-core-sounds-it-g722").glob("**/*.g722")):
        audio = _decoded(path)
        if len(audio) >= SHORTEST * RATE and not TONES.search(str(path.relative_to(PROMPTS))):
            fields = {"speaker": "Carlo", "language": "it", "split": "heldout"}
            name = "_".join(path.relative_to(PROMPTS).with_suffix("").parts)
            yield _sound(f"heldout/it/{name}", audio, RATE, rate, channels, fields, ())


def _sound(name, audio, native, rate, channels, fields, captions) -> Sound:
    audio = soxr.resample(audio, native, rate)
    return Sound(name, np.repeat(audio[:, None], channels, axis=1), fields, captions)


def _decoded(path: Path) -> np.ndarray:
    """Decodes a G.722 file, which soundfile cannot read, to [time] at 16 kHz."""
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"]
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        raise InputError("The program ffmpeg is not there: install it with apt-get install ffmpeg.") from None
    if done.returncode:
        raise InputError(f"ffmpeg cannot read {path}: {done.stderr.decode().strip()}")
    return np.frombuffer(done.stdout, "<f4").copy()


def _needed(path: Path, package: str) -> Path:
    if not path.exists():
        raise InputError(f"{path} is not there: install it with apt-get install {package}.")
    return path
