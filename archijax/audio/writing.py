"""Writes sound files."""

from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Array, Float

from archijax.atomic import replacing
from archijax.audio import libsndfile
from archijax.audio.formats import RATES
from archijax.audio.place import Place
from archijax.errors import InputError

# MP3 is missing because libsndfile garbles letters beyond ASCII in its tags.
_WRITTEN = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
_TAGS = frozenset({"title", "artist", "album", "genre", "year", "comment", "copyright", "software", "tracknumber"})
_BLOCK = 65_536


def write(
    path: str | Path,
    audio: Float[Array | np.ndarray, "time channels"],
    sample_rate: int,
    tags: dict[str, str] | None = None,
    *,
    exact: bool = False,
) -> None:
    """Writes a sound file. The file appears under its name only when all samples are written.

    The suffix of the path selects the format. The suffixes .wav and .flac give 24-bit samples, with a rounding error of
    at most 6e-8. The suffix .ogg gives Vorbis. Samples beyond [-1, 1] are clipped.

    Args:
        path: the file; an existing file is replaced.
        audio: the samples [time, channels], with full scale at 1.
        sample_rate: in Hz, from 1000 to 768,000; for .ogg, from 1000 to 200,000.
        tags: a dict from names to texts. The names are title, artist, album, genre, year, comment, copyright, software
            and tracknumber. None: no tags.
        exact: whether to write every float32 sample unchanged and without clipping; only for .wav.

    Raises:
        InputError: the audio has a wrong shape, is empty or is not finite; the format, the sample rate or a tag is not
            supported; or the folder is missing, full or read-only.
    """
    path = Path(path)
    audio = np.asarray(audio).astype(np.float32)
    # A tag can hold a file name, whose bytes need not be valid text.
    tags = {name: str(value).encode(errors="replace").decode() for name, value in (tags or {}).items()}
    if path.suffix.lower() not in _WRITTEN:
        raise InputError(f"{path} cannot be written: the suffix must be one of {', '.join(_WRITTEN)}.")
    if audio.ndim != 2 or not audio.size:
        raise InputError(f"Audio to write has shape {audio.shape}, but must be [time, channels] and not empty.")
    # The Vorbis encoder crashes the process beyond 200 kHz.
    highest = 200_000 if path.suffix.lower() == ".ogg" else RATES[-1]
    if not RATES[0] <= sample_rate <= highest:
        raise InputError(f"Sample rate of {path} is {sample_rate} Hz, but must lie between {RATES[0]} and {highest}.")
    if not np.isfinite(audio).all():
        raise InputError(f"{path} was not written: the audio holds NaN or infinity.")
    if unknown := sorted(tags.keys() - _TAGS):
        raise InputError(f"Tag {unknown[0]!r} cannot be written to {path}: the names are {', '.join(sorted(_TAGS))}.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
    kind, subtype = _WRITTEN[path.suffix.lower()]
    if exact and kind != "WAV":
        raise InputError(f"{path} cannot hold float samples exactly: the suffix must be .wav.")
    if exact:
        subtype = "FLOAT"
    else:
        audio = np.clip(audio, -1.0, 1.0)
    try:
        with replacing(path) as partial:
            name, channels = libsndfile.name_of(partial), audio.shape[1]
            with soundfile.SoundFile(name, "w", sample_rate, channels, subtype, format=kind) as file:
                for tag, value in tags.items():
                    setattr(file, "date" if tag == "year" else tag, value)
                # The Vorbis encoder can overflow the stack if it gets minutes of sound in one call.
                for begin in range(0, len(audio), _BLOCK):
                    file.write(audio[begin : begin + _BLOCK])
            # If the disk is full, libsndfile drops the frames in its encoders without an error.
            if not _whole(partial, len(audio)):
                raise InputError
    except (OSError, InputError, AssertionError) as error:
        raise InputError(f"{path} cannot be written: the folder is read-only or the disk is full.") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .").replace("System error", "the folder is read-only or the disk is full")
        raise InputError(f"{path} cannot be written: {reason}.") from error


def _whole(path: Path, frames: int) -> bool:
    """Returns whether a file has ``frames`` frames and its last frames can be decoded."""
    with libsndfile.opened(Place(path)) as stream:
        tail = min(frames, 4096)
        return stream.promised == stream.frames == frames and len(stream.decode(frames - tail, tail)) == tail
