"""Sound files: what their headers and tags say, and reading by seeking, at any rate and number of channels."""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soxr

from archijax.arithmetic import ceil_div
from archijax.audio import ffmpeg, libsndfile
from archijax.audio.channels import mix
from archijax.audio.formats import FFMPEG, LIBSNDFILE, RATES, SUFFIXES
from archijax.audio.loudness import full_scale
from archijax.audio.place import Place
from archijax.audio.tags import cleaned
from archijax.audio.writing import write
from archijax.errors import InputError, InputWarning

__all__ = ["FFMPEG", "LIBSNDFILE", "SUFFIXES", "AudioInfo", "info", "read", "verify", "write"]

# Half the length, in input frames, of a resampling filter that leaves nothing audible outside of it.
_FILTER_REACH = 512
_END = 4096  # frames at the end of a file that show whether it is whole
_MOST = 2**48  # frames; more is no length


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a sound file says.

    ``frames`` is the length in samples per channel at ``sample_rate`` (Hz). ``tags`` has lower-case names; of the
    usual ones are present those that the file has: title, artist, album, genre, year (four digits if found). ``layout``
    names the speaker of each channel, where there are more than two and the file says it (`archijax.audio.channels`).
    """

    frames: int
    sample_rate: int
    channels: int
    tags: dict[str, str]
    layout: tuple[str, ...] | None = field(default=None, compare=False)


def info(path: str | Path | Place) -> AudioInfo:
    """Reads header and tags of a file or of a part of one. Raises InputError: there is no such file, or no sound."""
    with _opened(path) as stream:
        return _info(path, stream)


def verify(path: str | Path | Place) -> AudioInfo:
    """Like `info`, but ``frames`` is what really decodes: less than the header states where the file was cut off.

    Only the end is decoded where that shows that the file is whole. All of it is decoded, to count, where it does not,
    and where the header gives no length but an estimate. Warns where more than 1 % or one second is missing, and where
    the samples are far beyond full scale. Raises InputError if nothing decodes.
    """
    with _opened(path) as stream:
        header = _info(path, stream)
        frames, tail = header.frames, min(header.frames, _END)
        if isinstance(stream, ffmpeg.Stream) or len(stream.decode(frames - tail, tail)) < tail:
            frames = stream.count()
        if not frames:
            raise InputError(f"{path} holds no sound: nothing of it can be decoded.")
        lost = 0 if stream.estimated else stream.promised - frames
        if lost > min(0.01 * stream.promised, stream.sample_rate):
            warnings.warn(
                f"{path} is cut off: its header promises {stream.promised} frames, {frames} decode and are used.",
                InputWarning,
                stacklevel=2,
            )
        if stream.left_out:
            parts = stream.left_out + len(stream.parts)
            warnings.warn(
                f"{path} goes on with other sound than it begins: {stream.left_out} of {parts} parts are left out.",
                InputWarning,
                stacklevel=2,
            )
        _scale(path, stream)
        return replace(header, frames=frames)


def read(
    path: str | Path | Place,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    start: int = 0,
    frames: int | None = None,
) -> np.ndarray:
    """Reads a sound file, or ``frames`` frames from ``start``, without decoding what lies before or after.

    ``start`` and ``frames`` count at the output rate. A crop equals the same crop of the whole file, resampled, to
    about 1e-6: no transients at its edges, no shift in time. In an MP3, and in what ffmpeg decodes, the seek itself may
    be off by some samples.

    Args:
      sample_rate: output rate in Hz, by default the file's.
      channels: output channels, by default the file's; `archijax.audio.channels.mix` brings others to that number.
      start: first frame.
      frames: number of frames, by default up to the end. Zeros follow the end of the file.

    Returns:
      float32 [frames, channels]; full scale is [-1, 1], which lossy codecs, float files, resampling and a mix of more
      than two channels may exceed. Float files far beyond it are brought back, with a warning
      (`archijax.audio.loudness.full_scale`).

    Raises:
      InputError: no such file, not sound, empty, or not a number (NaN or infinity) inside what is read.
    """
    for name, value, least in (("sample_rate", sample_rate, 1), ("channels", channels, 1), ("frames", frames, 1)):
        if value is not None and value < least:
            raise InputError(f"{name} is {value}, but must be at least {least}.")
    if start < 0:
        raise InputError(f"start is {start}, but must be at least 0.")
    with _opened(path) as stream:
        header = _info(path, stream)
        rate = sample_rate or header.sample_rate
        divisor = math.gcd(rate, header.sample_rate)
        # In the time of `stride` input frames exactly `stride_out` output frames pass: only there do the grids meet.
        stride, stride_out = header.sample_rate // divisor, rate // divisor
        margin = 0 if stride == stride_out else math.ceil(_FILTER_REACH * max(1, stride / stride_out))
        strides = max(0, start * stride // stride_out - margin) // stride
        begin = strides * stride
        end = _MOST if frames is None else ceil_div((start + frames) * stride, stride_out) + margin
        audio = stream.decode(begin, end - begin)
        audio = audio / np.float32(_scale(path, stream))
    if frames is None:
        whole = ceil_div((begin + len(audio)) * stride_out, stride)
        frames = whole - start
        if frames < 1 or not len(audio):
            raise InputError(f"start is {start}, but {path} has only {whole} frames at {rate} Hz.")
    if not np.isfinite(audio).all():
        raise InputError(f"{path} holds samples that are not finite (NaN or infinity).")
    channels = channels or audio.shape[1]
    if channels < audio.shape[1]:
        audio = mix(audio, channels, stream.layout, path)
    if margin and len(audio):
        audio = soxr.resample(audio, header.sample_rate, rate)
    skip = start - strides * stride_out
    audio = audio[skip : skip + frames]
    audio = np.pad(audio, ((0, frames - len(audio)), (0, 0))) if len(audio) < frames else audio
    if channels != audio.shape[1]:
        audio = mix(audio, channels, stream.layout, path)
    return np.ascontiguousarray(audio, dtype=np.float32)


@contextmanager
def _opened(path: str | Path | Place) -> Iterator[libsndfile.Stream | ffmpeg.Stream]:
    """The stream of a file, by ffmpeg if libsndfile does not know its format or refuses it."""
    place = path if isinstance(path, Place) else Place(Path(path))
    if not place.path.is_file():
        raise InputError(f"There is no file {place.path}.")
    if not os.access(place.path, os.R_OK):
        raise InputError(f"{place.path} may not be read by this user.")
    if not place.size:
        raise InputError(f"{place} is empty: it has 0 bytes.")
    if place.suffix in FFMPEG:
        yield ffmpeg.stream(place)
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(libsndfile.opened(place))
        except InputError as error:
            stream = _otherwise(place)
            if stream is None:
                raise error from None
        # What was written to a pipe may not say its length, or say 0.
        if not 0 < stream.frames <= _MOST:
            stream = _otherwise(place) or stream
        yield stream


def _otherwise(place: Place) -> ffmpeg.Stream | None:
    """The stream of a file that libsndfile refuses, None where there is no ffmpeg or it refuses too."""
    try:
        return ffmpeg.stream(place) if ffmpeg.installed() else None
    except InputError:
        return None


def _info(path: str | Path | Place, stream: libsndfile.Stream | ffmpeg.Stream) -> AudioInfo:
    if stream.sample_rate not in RATES:
        raise InputError(
            f"{path} has a sample rate of {stream.sample_rate} Hz in its header, but it must lie between"
            f" {RATES[0]} and {RATES[-1]}."
        )
    if stream.frames > _MOST:
        raise InputError(f"{path} does not say how long it is, as streams do; encode it again to a file.")
    if not stream.frames:
        raise InputError(f"{path} holds no sound: its length is zero.")
    return AudioInfo(stream.frames, stream.sample_rate, stream.channels, cleaned(stream.tags), stream.layout)


def _scale(path: str | Path | Place, stream: libsndfile.Stream | ffmpeg.Stream) -> float:
    place = path if isinstance(path, Place) else Place(Path(path))
    return full_scale(place, stream.frames, stream.decode) if stream.floats else 1.0
