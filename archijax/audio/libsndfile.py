"""Sound as libsndfile decodes it, with what it does not do: Ogg links, tags before a FLAC file, seeking near damage."""

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

from archijax.audio import channels, ogg
from archijax.audio.place import Place
from archijax.errors import InputError

_BLOCK = 65_536
# A frame of an MP3 borrows bits from as many as nine before it, so that the first frames after a seek are wrong.
_MP3_PREROLL = 16 * 1152
# libsndfile loses a few milliseconds when it seeks into the last page of an Ogg stream, of at most 255 packets.
_OGG_LAST_PAGE = 256 * 1024

# What libsndfile's words mean to the owner of the file.
_REASONS = {
    "SF_INFO": "the sample rate or the number of channels in its header is 0 or absurd",
    "psf_fseek": "it is damaged or cut off",
    "not a regular file": "there is no MP3 frame in it",
}


@contextmanager
def opened(place: Place) -> Iterator["Stream"]:
    """The stream of a sound. Anything that libsndfile refuses, now or later, becomes an InputError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_hush if place.suffix == ".mp3" else nullcontext())
            yield Stream(place, _parts(place), stack)
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            said = getattr(error, "error_string", str(error)).strip(" .")
            reason = next((ours for theirs, ours in _REASONS.items() if theirs in said), said or "it is damaged")
            raise InputError(f"{place} cannot be read as sound: {reason}.") from error


Opener = Callable[[], soundfile.SoundFile]


def _parts(place: Place) -> list[Opener]:
    """What opens the links of an Ogg file, or any other file."""
    with place.open() as file:
        head = file.read(10)
    if head[:4] == b"OggS" and len(links := ogg.links(place)) > 1:
        return [lambda link=link: soundfile.SoundFile(place.open(*link)) for link in links]
    if head[:3] == b"ID3" and place.suffix == ".flac":
        # libsndfile reads behind the tag, but seeks as if there were none.
        return [lambda: soundfile.SoundFile(place.open(id3_size(head)))]
    if place.end is not None:
        return [lambda: soundfile.SoundFile(place.open())]
    return [lambda: soundfile.SoundFile(name_of(place.path))]


def name_of(path: Path) -> str | bytes:
    """A path as soundfile takes it: as bytes where they need not be letters."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def id3_size(head: bytes) -> int:
    """Bytes of the ID3v2 tag (section 3.1) whose first ten bytes are given."""
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)


class Stream:
    """The sound of an open file, its parts one after the other.

    Attributes:
      frames: length that the header states.
      sample_rate: in Hz.
      channels: their number.
      layout: the speaker of each, None where the file does not say.
      tags: as the file has them.
      floats: whether its samples are floating point numbers, which may have any size.
      left_out: links of an Ogg file that are damaged, or of another sample rate than the first.
      estimated: whether the length is not stated but guessed.
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
        """The length that the header states, where libsndfile shortens it to what is there and says so in its log."""
        (file, _), least = self.parts[0], self.frames
        for stated, found in re.findall(r"(?:data|SSND) : (\d+) \(should be (\d+)\)", file.extra_info):
            # Programs that write to a pipe cannot know the length and put the largest number there.
            if 0 < int(found) < int(stated) < 0x7FFF0000:
                return int(least * int(stated) / int(found))
        return least

    def decode(self, begin: int, count: int) -> np.ndarray:
        """float32 [up to count, channels] from frame `begin`; fewer at the end of the file."""
        pieces, end = [np.zeros((0, self.channels), np.float32)], begin + count
        for file, opener in self.parts:
            if begin < file.frames and end > 0:
                first = max(0, begin)
                piece = _decode(file, opener, first, min(end, file.frames) - first)
                # Links may have other channels than the first.
                pieces.append(channels.mix(piece, self.channels, _layout(file), "a link of an Ogg file"))
            begin, end = begin - file.frames, end - file.frames
        return pieces[1] if len(pieces) == 2 else np.concatenate(pieces)

    def count(self) -> int:
        """The number of frames that really can be decoded."""
        return sum(len(block) for _, opener in self.parts for block in _blocks(opener))


def _decode(file: soundfile.SoundFile, opener: Opener, begin: int, count: int) -> np.ndarray:
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
    # It is damaged where the seek looks, or in what is read: all is decoded up to there.
    pieces, place = [np.zeros((0, file.channels), np.float32)], 0
    for block in _blocks(opener):
        pieces.append(block[max(0, begin - place) : max(0, begin + count - place)].copy())
        place += len(block)
        if place >= begin + count:
            break
    return np.concatenate(pieces)


def _blocks(opener: Opener) -> Iterator[np.ndarray]:
    """All that can be decoded from the beginning on; the same array again and again."""
    place = 0
    # What fails in a large block can still be decoded in part. After a failure a decoder is of no more use.
    for size in (_BLOCK, 1024):
        with opener() as file:
            block = np.empty((size, file.channels), np.float32)
            try:
                file.seek(place)
                while len(got := file.read(out=block)):
                    yield got
                    place += len(got)
                return
            except soundfile.LibsndfileError:
                continue


def _layout(file: soundfile.SoundFile) -> tuple[str, ...] | None:
    """The speaker of each channel, None where the file does not say."""
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
    """Whether the first frame is one of the headers that give the number of frames."""
    with place.open() as file:
        head = file.read(10)
        file.seek(id3_size(head) if head[:3] == b"ID3" else 0)
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
