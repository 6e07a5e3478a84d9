"""Sound files: headers and tags, reading by seeking with resampling, atomic writing."""

import ctypes
import math
import os
import re
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from archijax.arithmetic import ceil_div
from archijax.atomic import replacing
from archijax.errors import InputError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
"""Suffixes of the files that can be read, in lower case."""

# No MP3: libsndfile garbles the letters beyond ASCII in its tags.
_WRITTEN = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
_TAGS = frozenset({"title", "artist", "album", "genre", "year", "comment", "copyright", "software", "tracknumber"})
_RATES = range(1_000, 768_001)
_BLOCK = 65_536
# A frame of an MP3 borrows bits from as many as nine before it, so that the first frames after a seek are wrong.
_MP3_PREROLL = 16 * 1152
# libsndfile loses a few milliseconds when it seeks into the last page of an Ogg stream, of at most 255 packets.
_OGG_LAST_PAGE = 256 * 1024
# Half the length, in input frames, of a resampling filter that leaves nothing audible outside of it.
_FILTER_REACH = 512

# What libsndfile's words mean to the owner of the file.
_REASONS = {
    "SF_INFO": "the sample rate or the number of channels in its header is 0 or absurd",
    "psf_fseek": "it is damaged or cut off",
    "not a regular file": "there is no MP3 frame in it",
}


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file says.

    ``frames`` is the length in samples per channel at ``sample_rate`` (Hz). ``tags`` has lower-case names; of the
    usual ones are present those that the file has: title, artist, album, genre, year (four digits if found).
    """

    frames: int
    sample_rate: int
    channels: int
    tags: dict[str, str]


def info(path: str | Path) -> AudioInfo:
    """Reads header and tags. Raises InputError if there is no such file, or it holds no sound."""
    with _open(path) as file:
        return _info(path, file)


def verify(path: str | Path) -> AudioInfo:
    """Like `info`, but also decodes the end of the file, to find the ones that were cut off.

    An MP3 without a length in its header only has an estimate of it: then all of it is decoded, to count.
    Raises InputError if the header promises more than the file holds.
    """
    with _open(path) as file:
        header = _info(path, file)
        # libsndfile silently shortens these two containers to what is there, and says so in its log alone.
        for promised, found in re.findall(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info):
            # Programs that write to a pipe cannot know the length and put the largest number there.
            if int(found) < int(promised) < 0x7FFF0000:
                raise InputError(f"{path} is cut off: its header promises {promised} bytes of sound, it has {found}.")
        if file.format == "OGG" and not _ogg_ends(path):
            raise InputError(f"{path} is cut off: the last page of its stream is missing.")
        tail = min(header.frames, 4096)
        if len(_decode(file, header.frames - tail, tail)) < tail:
            found = _count(file)
            if file.format != "MP3" or (_mp3_states_length(path) and found < header.frames - 2 * 1152):
                raise InputError(
                    f"{path} is cut off: its header promises {header.frames} frames, {found} can be decoded."
                )
            header = AudioInfo(found, header.sample_rate, header.channels, header.tags)
        return header


def read(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    start: int = 0,
    frames: int | None = None,
) -> np.ndarray:
    """Reads a sound file, or ``frames`` frames from ``start``, without decoding what lies before or after.

    ``start`` and ``frames`` count at the output rate. A crop equals the same crop of the whole file, resampled, to
    about 1e-6: no transients at its edges, no shift in time. In an MP3 the seek itself may be off by some samples.

    Args:
      sample_rate: output rate in Hz, by default the file's.
      channels: output channels, by default the file's. One channel is repeated; any other change averages all channels
        to one and repeats that.
      start: first frame.
      frames: number of frames, by default up to the end. Zeros follow the end of the file.

    Returns:
      float32 [frames, channels]; full scale is [-1, 1], which lossy codecs, float files and resampling may exceed.

    Raises:
      InputError: no such file, not sound, empty, or not a number (NaN or infinity) inside what is read.
    """
    for name, value, least in (("sample_rate", sample_rate, 1), ("channels", channels, 1), ("frames", frames, 1)):
        if value is not None and value < least:
            raise InputError(f"{name} is {value}, but must be at least {least}.")
    if start < 0:
        raise InputError(f"start is {start}, but must be at least 0.")
    with _open(path) as file:
        header = _info(path, file)
        rate = sample_rate or header.sample_rate
        divisor = math.gcd(rate, header.sample_rate)
        # In the time of `stride` input frames exactly `stride_out` output frames pass: only there do the grids meet.
        stride, stride_out = header.sample_rate // divisor, rate // divisor
        if frames is None:
            frames = ceil_div(header.frames * stride_out, stride) - start
            if frames < 1:
                raise InputError(f"start is {start}, but {path} has only {frames + start} frames at {rate} Hz.")
        margin = 0 if stride == stride_out else math.ceil(_FILTER_REACH * max(1, stride / stride_out))
        strides = max(0, start * stride // stride_out - margin) // stride
        begin, end = strides * stride, ceil_div((start + frames) * stride, stride_out) + margin
        audio = _decode(file, begin, end - begin)
    if not np.isfinite(audio).all():
        raise InputError(f"{path} holds samples that are not finite (NaN or infinity).")
    if channels not in (None, audio.shape[1]) and audio.shape[1] > 1:
        audio = audio.mean(axis=1, keepdims=True)
    if margin and len(audio):
        audio = soxr.resample(audio, header.sample_rate, rate)
    skip = start - strides * stride_out
    audio = audio[skip : skip + frames]
    audio = np.pad(audio, ((0, frames - len(audio)), (0, 0))) if len(audio) < frames else audio
    if channels not in (None, audio.shape[1]):
        audio = audio.repeat(channels, axis=1)
    return np.ascontiguousarray(audio, dtype=np.float32)


def write(
    path: str | Path,
    audio: np.ndarray,
    sample_rate: int,
    tags: dict[str, str] | None = None,
    *,
    exact: bool = False,
) -> None:
    """Writes a sound file; it appears under its name only when it is complete.

    The suffix gives the format: .wav and .flac with 24 bits (so that rounding, 6e-8, is far below what float32 audio is
    compared to), .ogg is Vorbis. Samples beyond [-1, 1] are clipped.

    Args:
      path: the file, replaced if it exists.
      audio: [time, channels].
      sample_rate: in Hz.
      tags: names as in `AudioInfo.tags`.
      exact: every float32 sample as it is, not clipped; for .wav alone.

    Raises:
      InputError: wrong shape, empty or not finite audio, a format, rate or tag that cannot be written, or an output
        folder that is missing, full or read-only.
    """
    path = Path(path)
    audio = np.asarray(audio).astype(np.float32)
    tags = {name: str(value) for name, value in (tags or {}).items()}
    if path.suffix.lower() not in _WRITTEN:
        raise InputError(f"{path} cannot be written: the suffix must be one of {', '.join(_WRITTEN)}.")
    if audio.ndim != 2 or not audio.size:
        raise InputError(f"Audio to write has shape {audio.shape}, but must be [time, channels] and not empty.")
    # The Vorbis encoder crashes the process beyond 200 kHz.
    highest = 200_000 if path.suffix.lower() == ".ogg" else _RATES[-1]
    if not _RATES[0] <= sample_rate <= highest:
        raise InputError(f"Sample rate of {path} is {sample_rate} Hz, but must lie between {_RATES[0]} and {highest}.")
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
            with soundfile.SoundFile(partial, "w", sample_rate, audio.shape[1], subtype, format=kind) as file:
                for name, value in tags.items():
                    setattr(file, "date" if name == "year" else name, value)
                # In blocks: the Vorbis encoder can overflow the stack when given minutes at once.
                for begin in range(0, len(audio), _BLOCK):
                    file.write(audio[begin : begin + _BLOCK])
            # A full disk makes libsndfile drop what its encoders hold back, without an error.
            if verify(partial).frames != len(audio):
                raise InputError
    except (OSError, InputError, AssertionError) as error:
        raise InputError(f"{path} cannot be written: the folder is read-only or the disk is full.") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .").replace("System error", "the folder is read-only or the disk is full")
        raise InputError(f"{path} cannot be written: {reason}.") from error


@contextmanager
def _open(path):
    """Opens for reading; anything that libsndfile refuses, now or later, becomes an InputError."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read by this user.")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: it has 0 bytes.")
    try:
        with _hush if path.suffix.lower() == ".mp3" else nullcontext(), soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        said = getattr(error, "error_string", str(error)).strip(" .")
        reason = next((ours for theirs, ours in _REASONS.items() if theirs in said), said or "it is damaged")
        raise InputError(f"{path} cannot be read as sound: {reason}.") from error


def _info(path, file):
    if file.samplerate not in _RATES:
        raise InputError(
            f"{path} has a sample rate of {file.samplerate} Hz in its header, but it must lie between"
            f" {_RATES[0]} and {_RATES[-1]}."
        )
    if file.frames > 2**48:
        raise InputError(f"{path} does not say how long it is, as streams do; encode it again to a file.")
    if not file.frames:
        raise InputError(f"{path} holds no sound: its length is zero.")
    tags = {name: value.strip() for name, value in file.copy_metadata().items() if value.strip()}
    if date := tags.pop("date", None):
        year = re.search(r"\d{4}", date)
        tags["year"] = year.group() if year else date
    return AudioInfo(file.frames, file.samplerate, file.channels, tags)


def _decode(file, begin, count):
    """Up to ``count`` frames from ``begin``, both at the file's rate; fewer at the end of the file."""
    count = min(count, file.frames - begin)
    if count <= 0:
        return np.zeros((0, file.channels), np.float32)
    origin = begin
    if file.format == "MP3":
        origin = max(0, begin - _MP3_PREROLL)
    elif file.format == "OGG":
        origin = max(0, min(begin, file.frames - _OGG_LAST_PAGE))
    file.seek(origin)
    return file.read(begin - origin + count, dtype="float32", always_2d=True)[begin - origin :]


def _count(file):
    """The number of frames that really can be decoded."""
    file.seek(0)
    block = np.empty((_BLOCK, file.channels), np.float32)
    count = 0
    while got := len(file.read(out=block)):
        count += got
    return count


def _ogg_ends(path):
    """Whether the last page is whole and carries the end-of-stream flag (RFC 3533, section 6)."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 2 * _BLOCK))
        page = file.read()
    page = page[page.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(segments)


def _mp3_states_length(path):
    """Whether the first frame is one of the headers that give the number of frames."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            file.seek(10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        frame = file.read(1024)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


class _Hush:
    """Keeps C code in this process from printing on stderr inside of ``with``; Python's own stderr goes on.

    For mpg123, which comments on most seeks and on what is wrong with a file beside the error that it reports.
    """

    def __init__(self):
        self.depth, self.lock = 0, threading.Lock()
        try:
            libc = ctypes.CDLL(None)
            self.stream = ctypes.c_void_p.in_dll(libc, "__stderrp" if sys.platform == "darwin" else "stderr")
            libc.fopen.restype = ctypes.c_void_p
            self.loud = self.stream.value
            self.silent = libc.fopen(os.devnull.encode(), b"w") or self.loud
        except (OSError, TypeError, ValueError):
            # No such variable on this system, where the comments then show.
            self.stream, self.loud, self.silent = ctypes.c_void_p(), None, None

    def __enter__(self):
        with self.lock:
            self.depth += 1
            self.stream.value = self.silent

    def __exit__(self, *_):
        with self.lock:
            self.depth -= 1
            if not self.depth:
                self.stream.value = self.loud


_hush = _Hush()
