"""Decodes sound files by libsndfile.

Chained Ogg files, FLAC files that begin with an ID3 tag, and damaged files can be decoded too.
"""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from archijax.audio import channels, ogg
from archijax.audio.place import Place
from archijax.errors import InputError

_BLOCK = 65_536
# An MP3 frame uses bits of up to nine frames before it, so the first frames after a seek are decoded wrongly.
_MP3_PREROLL = 16 * 1152
# libsndfile loses a few milliseconds if it seeks into the last page of an Ogg stream. A page has at most 255 packets.
_OGG_LAST_PAGE = 256 * 1024

# Plain reasons for errors of libsndfile.
_REASONS = {
    "SF_INFO": "the sample rate or the number of channels in its header is 0 or absurd",
    "psf_fseek": "it is damaged or cut off",
    "not a regular file": "there is no MP3 frame in it",
}


@contextmanager
def opened(place: Place) -> Iterator["Stream"]:
    """Opens a file as a :class:`Stream`: ``with opened(Place(Path("a.wav"))) as stream``.

    Raises:
        InputError: libsndfile reports an error when the file is opened, or inside the ``with`` block.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_hush if place.suffix == ".mp3" else nullcontext())
            yield Stream(place, _parts(place), stack)
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            text = getattr(error, "error_string", str(error)).strip(" .")
            reason = next((ours for theirs, ours in _REASONS.items() if theirs in text), text or "it is damaged")
            raise InputError(f"{place} cannot be read as sound: {reason}.") from error


Opener = Callable[[], soundfile.SoundFile]


def _parts(place: Place) -> list[Opener]:
    """Returns functions that open the file: one function per link for Ogg, or one function for other formats."""
    with place.open() as file:
        head = file.read(10)
    if head[:4] == b"OggS" and len(links := ogg.links(place)) > 1:
        return [lambda link=link: soundfile.SoundFile(place.open(*link)) for link in links]
    if head[:3] == b"ID3" and place.suffix == ".flac":
        # libsndfile reads the sound after the tag, but seeks as if there were no tag.
        return [lambda: soundfile.SoundFile(place.open(id3_size(head)))]
    if place.end is not None:
        return [lambda: soundfile.SoundFile(place.open())]
    return [lambda: soundfile.SoundFile(name_of(place.path))]


def name_of(path: Path) -> str | bytes:
    """Returns a path in the type that soundfile needs: bytes on POSIX, where a path can be invalid text, and a string
    elsewhere."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def id3_size(head: bytes) -> int:
    """Returns the size in bytes of an ID3v2 tag, computed from its first ten bytes (ID3v2.4, section 3.1)."""
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)


class Stream:
    """The sound of an open file, as :func:`opened` yields it. The links (chained streams) of an Ogg file are joined.

    Attributes:
        frames: the number of frames (samples per channel) that libsndfile reports.
        sample_rate: in Hz.
        channels: the number of channels.
        layout: the speaker of each channel, such as ("FL", "FR", "FC"). None if the file does not state the speakers,
            or has at most two channels.
        tags: a dict of the tags in the file, from names to texts.
        floats: whether the samples are floating-point numbers, which can exceed full scale.
        left_out: the number of links that are left out, because they are damaged or have another sample rate than the
            first link.
        parts: for each link that is not left out, a pair (the open file, the function that opens this link).
        estimated: whether ``frames`` is an estimate, because the header does not state the length.
    """

    def __init__(self, place: Place, openers: list[Opener], stack: ExitStack):
        self._place = place
        first, *others = openers
        file = stack.enter_context(first())
        self.parts = [(file, first)]
        self.sample_rate, self.channels = file.samplerate, file.channels
        for opener in others:
            with suppress(soundfile.LibsndfileError):
                part = stack.enter_context(opener())
                if part.samplerate == file.samplerate:
                    self.parts.append((part, opener))
        self.left_out = len(openers) - len(self.parts)
        self.frames = sum(part.frames for part, _ in self.parts)
        self.floats = file.subtype in ("FLOAT", "DOUBLE")
        self.layout = _layout(file) if file.channels > 2 else None
        self.tags = file.copy_metadata()

    @property
    def estimated(self) -> bool:
        file, _ = self.parts[0]
        return file.format == "MP3" and not _mp3_states_length(self._place)

    @property
    def promised(self) -> int:
        """Returns the number of frames that the header states.

        If the file is cut off, ``frames`` is the smaller number that libsndfile has found.
        """
        file, _ = self.parts[0]
        for stated, actual in re.findall(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info):
            # A program that writes to a pipe does not know the length, and states the largest number.
            if 0 < int(actual) < int(stated) < 0x7FFF0000:
                return int(self.frames * int(stated) / int(actual))
        return self.frames

    def decode(self, begin: int, count: int) -> Float32[np.ndarray, "frames {self.channels}"]:
        """Decodes `count` frames, starting at frame `begin`. If the file ends earlier, fewer frames are returned."""
        pieces, end = [np.zeros((0, self.channels), np.float32)], begin + count
        for file, opener in self.parts:
            if begin < file.frames and end > 0:
                first = max(0, begin)
                piece = _decode(file, opener, first, min(end, file.frames) - first)
                # A link can have another number of channels than the first link.
                pieces.append(channels.mix(piece, self.channels, _layout(file), "a link of an Ogg file"))
            begin, end = begin - file.frames, end - file.frames
        return pieces[1] if len(pieces) == 2 else np.concatenate(pieces)

    def count(self) -> int:
        """Decodes the whole file, and returns the number of decoded frames."""
        return sum(len(block) for _, opener in self.parts for block in _blocks(opener))


def _decode(file: soundfile.SoundFile, opener: Opener, begin: int, count: int) -> Float32[np.ndarray, "frames c"]:
    origin = begin
    if file.format == "MP3":
        origin = max(0, begin - _MP3_PREROLL)
    elif file.format == "OGG":
        origin = max(0, min(begin, file.frames - _OGG_LAST_PAGE))
    try:
        file.seek(origin)
        return file.read(begin - origin + count, dtype="float32", always_2d=True)[begin - origin :]
    except soundfile.LibsndfileError:
        pass
    # The file is damaged near the seek or in the crop. Decode everything from the start up to the end of the crop.
    pieces, position = [np.zeros((0, file.channels), np.float32)], 0
    for block in _blocks(opener):
        pieces.append(block[max(0, begin - position) : max(0, begin + count - position)].copy())
        position += len(block)
        if position >= begin + count:
            break
    return np.concatenate(pieces)


def _blocks(opener: Opener) -> Iterator[Float32[np.ndarray, "frames c"]]:
    """Yields all blocks that can be decoded. All blocks use the same memory, so copy a block to keep it."""
    position = 0
    # If a large block fails, smaller blocks decode more of it. A decoder that failed cannot be used again.
    for size in (_BLOCK, 1024):
        with opener() as file:
            buffer = np.empty((size, file.channels), np.float32)
            try:
                file.seek(position)
                while len(block := file.read(out=buffer)):
                    yield block
                    position += len(block)
                return
            except soundfile.LibsndfileError:
                continue


def _layout(file: soundfile.SoundFile) -> tuple[str, ...] | None:
    """Returns the speaker of each channel; None if the file does not state the speakers."""
    if file.format == "FLAC" or file.subtype == "FLAC":
        return channels.FLAC.get(file.channels)
    if file.format == "OGG":
        return channels.VORBIS.get(file.channels)
    if mask := re.search(r"Channel Mask\s*: 0x([0-9A-Fa-f]+)", file.extra_info):
        return channels.speakers(int(mask[1], 16)) or None
    if layout := re.search(r"Layout : .*\(([\w, ]+)\)", file.extra_info):
        names = tuple(_APPLE.get(name.strip(), "") for name in layout[1].split(","))
        return names if all(names) else None
    return None


_APPLE = {
    "L": "FL",
    "R": "FR",
    "C": "FC",
    "LFE": "LFE",
    "Ls": "SL",
    "Rs": "SR",
    "Rls": "BL",
    "Rrs": "BR",
    "Lc": "FLC",
    "Rc": "FRC",
    "Cs": "BC",
}


def _mp3_states_length(place: Place) -> bool:
    """Returns whether the file begins with a header that states its length (Xing, Info or VBRI)."""
    with place.open() as file:
        head = file.read(10)
        file.seek(id3_size(head) if head[:3] == b"ID3" else 0)
        frame = file.read(1024)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


class _Hush:
    """Keeps the C code of this process from printing on stderr inside a ``with`` block. Python can still print on
    stderr.

    The library mpg123 prints messages about damaged files and during nearly every seek. These messages are not needed,
    because mpg123 also returns its errors.
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
            # The C library of this system has no such variable, so the messages are printed.
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
