"""Reads the headers, the tags and the sound of files. Sound is read at any sample rate and number of channels."""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float32

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

# Half the length of the resampling filter, in frames of the input. Beyond it, the filter is too small to be heard.
_FILTER_REACH = 512
_END = 4096  # frames at the end of a file; if they decode, the file is complete
_MOST = 2**48  # frames; a larger number in a header means that the length is unknown


@dataclass(frozen=True)
class AudioInfo:
    """The header of a sound file, as :func:`info` returns it.

    Fields:
        frames: the length of the sound in samples per channel.
        sample_rate: in Hz.
        channels: the number of channels.
        tags: a dict from lower-case names, such as title, artist, album, genre and year, to texts. If the date contains
            four digits in a row, these digits are the year.
        layout: the speaker of each channel, such as ("FL", "FR", "FC"). None if the file does not state the speakers,
            or has at most two channels.
    """

    frames: int
    sample_rate: int
    channels: int
    tags: dict[str, str]
    layout: tuple[str, ...] | None = field(default=None, compare=False)


def info(path: str | Path | Place) -> AudioInfo:
    """Reads the header and the tags of a sound file. Raises InputError if the file is missing or holds no sound."""
    with _opened(path) as stream:
        return _info(path, stream)


def verify(path: str | Path | Place) -> AudioInfo:
    """Returns the header as :func:`info` does, but ``frames`` is the number of frames that can be decoded.

    If a file was cut off, this number is smaller than the number that the header states. The last 4096 frames are
    decoded first. If this fails, or if ffmpeg decodes the file, the whole file is decoded and its frames are counted.

    Warns (InputWarning) if more than 1 % of the frames or more than one second is missing. Warns also if links (chained
    streams) of an Ogg file are left out, or if a float file has samples more than 12 dB above full scale.

    Raises:
        InputError: the file is missing, or no frame can be decoded.
    """
    with _opened(path) as stream:
        header = _info(path, stream)
        frames, tail = header.frames, min(header.frames, _END)
        if isinstance(stream, ffmpeg.Stream) or len(stream.decode(frames - tail, tail)) < tail:
            frames = stream.count()
        if not frames:
            raise InputError(f"{path} holds no sound: no frame of it can be decoded.")
        lost = 0 if stream.estimated else stream.promised - frames
        if lost > min(0.01 * stream.promised, stream.sample_rate):
            warnings.warn(
                f"{path} is cut off: its header promises {stream.promised} frames, but only {frames} decode.",
                InputWarning,
                stacklevel=2,
            )
        if stream.left_out:
            links = stream.left_out + len(stream.parts)
            warnings.warn(
                f"{path} has links that are damaged or have another sample rate: "
                f"{stream.left_out} of {links} links are left out.",
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
) -> Float32[np.ndarray, "frames channels"]:
    """Reads a sound file or a crop of a sound file.

    If the format allows seeking, only the crop and short margins around it are decoded. A resampled crop differs from
    the same crop of the whole resampled file by about 1e-6. In MP3 files and in files that ffmpeg decodes, the crop can
    begin some samples too early or too late.

    Args:
        path: a file; or a `Place`, which is a part of a file, such as a member of an archive.
        sample_rate: the sample rate of the result in Hz; None: the sample rate of the file.
        channels: the number of channels of the result, mixed by `archijax.audio.channels.mix`; None: as in the file.
        start: the index of the first frame to read, at the sample rate of the result.
        frames: the number of frames (samples per channel) to read, at the sample rate of the result; None: all frames
            from ``start`` to the end. Frames after the end of the file are zero.

    Returns:
        The sound [frames, channels], with full scale at 1. For a file of n frames with sample rate r, ``frames=None``
        gives ``ceil(n * sample_rate / r) - start`` frames. Samples can exceed full scale after lossy codecs, resampling
        and mixing, and in float files. A float file with samples more than 12 dB above full scale is scaled down, with
        a warning (see `archijax.audio.loudness.full_scale`).

    Raises:
        InputError: the file does not exist or holds no sound, a sample of the crop is not finite, or an argument is out
            of range.
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
        # `stride` input frames last as long as `stride_out` output frames, so that both sampling grids meet there.
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
    """Opens a file and yields its stream. Files with a suffix in FFMPEG are opened by ffmpeg. Other files are opened by
    libsndfile, or by ffmpeg if libsndfile fails."""
    place = path if isinstance(path, Place) else Place(Path(path))
    if not place.path.is_file():
        raise InputError(f"There is no file {place.path}.")
    if not os.access(place.path, os.R_OK):
        raise InputError(f"{place.path} cannot be read: this user has no permission.")
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
        # The header of a file that was written to a pipe may state no length, or 0.
        if not 0 < stream.frames <= _MOST:
            stream = _otherwise(place) or stream
        yield stream


def _otherwise(place: Place) -> ffmpeg.Stream | None:
    """Opens a file by ffmpeg. Returns None if ffmpeg is not installed or cannot read the file."""
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
        raise InputError(f"{path} does not state its length, as if it were a live stream: encode it to a file again.")
    if not stream.frames:
        raise InputError(f"{path} holds no sound: its length is zero.")
    return AudioInfo(stream.frames, stream.sample_rate, stream.channels, cleaned(stream.tags), stream.layout)


def _scale(path: str | Path | Place, stream: libsndfile.Stream | ffmpeg.Stream) -> float:
    place = path if isinstance(path, Place) else Place(Path(path))
    return full_scale(place, stream.frames, stream.decode) if stream.floats else 1.0
