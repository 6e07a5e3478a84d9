"""Decodes formats that libsndfile cannot decode. The program ``ffmpeg`` must be installed."""

import contextlib
import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from jaxtyping import Float32

from archijax.audio.place import Place
from archijax.errors import InputError

_BLOCK = 65_536
# Containers with an index of all times. In other files a seek can miss by seconds, so they are decoded from the start.
_SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm", "asf", "ape", "wv", "tta"})
_DELAY = 0.1  # seconds; the longest delay that a codec adds to the length
_PREROLL = 0.5  # seconds decoded before a crop, because codecs need earlier packets and timestamps are rounded
# Names of the channel layouts with more than two channels (`ffmpeg -layouts`).
_LAYOUTS = {
    "2.1": "FL FR LFE",
    "3.0": "FL FR FC",
    "3.0(back)": "FL FR BC",
    "3.1": "FL FR FC LFE",
    "4.0": "FL FR FC BC",
    "4.1": "FL FR FC LFE BC",
    "quad": "FL FR BL BR",
    "quad(side)": "FL FR SL SR",
    "5.0": "FL FR FC BL BR",
    "5.0(side)": "FL FR FC SL SR",
    "5.1": "FL FR FC LFE BL BR",
    "5.1(side)": "FL FR FC LFE SL SR",
    "6.0": "FL FR FC BC SL SR",
    "6.1": "FL FR FC LFE BC SL SR",
    "7.0": "FL FR FC BL BR SL SR",
    "7.1": "FL FR FC LFE BL BR SL SR",
    "7.1(wide)": "FL FR FC LFE BL BR FLC FRC",
}


def installed() -> bool:
    """Returns whether the programs ffmpeg and ffprobe are on the PATH."""
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


@dataclass(frozen=True)
class Stream:
    """The first sound stream of a file, as :func:`stream` returns it.

    Fields:
        url: the address by which ffmpeg opens the file, such as "file:a.m4a".
        frames: the number of frames (samples per channel) that the header states.
        sample_rate: in Hz.
        channels: the number of channels.
        layout: the speaker of each channel, such as ("FL", "FR", "FC"); None for mono, stereo and unknown layouts.
        tags: a dict from the lower-case names of the tags to their texts.
        seekable: whether ffmpeg can seek to an exact time.
    """

    url: str
    frames: int
    sample_rate: int
    channels: int
    layout: tuple[str, ...] | None
    tags: dict[str, str]
    seekable: bool

    floats, left_out = False, 0

    @property
    def estimated(self) -> bool:
        """Returns whether ``frames`` is an estimate: True if ffmpeg cannot seek to an exact time."""
        return not self.seekable

    @property
    def promised(self) -> int:
        """Returns the smallest number of frames that a complete file can have.

        A codec can add a delay of up to 0.1 s to the stated length, so 0.1 s are subtracted from ``frames``.
        """
        return max(0, self.frames - int(_DELAY * self.sample_rate))

    def decode(self, begin: int, count: int) -> Float32[np.ndarray, "frames {self.channels}"]:
        """Decodes `count` frames, starting at frame `begin`. If the file ends earlier, fewer frames are returned."""
        preroll = int(_PREROLL * self.sample_rate)
        origin = begin - preroll if self.seekable and begin > 2 * preroll else 0
        size, skip, pieces = 4 * self.channels, begin - origin, []
        with self._decoder(origin) as output:
            while count > 0 and (data := output.read(_BLOCK * size)):
                block = np.frombuffer(data[: len(data) // size * size], np.float32).reshape(-1, self.channels)
                piece = block[skip : skip + count]
                pieces.append(piece)
                skip, count = max(0, skip - len(block)), count - len(piece)
        return np.concatenate([np.zeros((0, self.channels), np.float32), *pieces])

    def count(self) -> int:
        """Decodes the whole file, and returns the number of decoded frames."""
        total = 0
        with self._decoder(0) as output:
            while data := output.read(_BLOCK * 4 * self.channels):
                total += len(data)
        return total // (4 * self.channels)

    @contextlib.contextmanager
    def _decoder(self, origin: int) -> Iterator[IO[bytes]]:
        """Runs ffmpeg on the file, beginning at frame `origin`, and yields a pipe of float32 samples."""
        seek = ["-ss", f"{origin / self.sample_rate:.9f}"] if origin else []
        output = ["-f", "f32le", "-ar", str(self.sample_rate), "-ac", str(self.channels), "pipe:1"]
        command = ["ffmpeg", "-nostdin", "-v", "quiet", *seek, "-i", self.url, "-map", "0:a:0", *output]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                yield process.stdout  # pyrefly: ignore [invalid-yield]  it is a pipe
            finally:
                process.kill()


def stream(place: Place) -> Stream:
    """Returns the first sound stream of a file. Example: ``stream(Place(Path("a.m4a")))``.

    Raises:
        InputError: ffmpeg is not installed, or finds no sound in the file.
    """
    if not installed():
        raise InputError(f"{place} cannot be read as sound: {place.suffix} files need ffmpeg, which is not installed.")
    return _stream(place, place.version())


# Many crops are read from one file. The cache avoids a call of ffprobe for each crop.
@functools.lru_cache(maxsize=65_536)
def _stream(place: Place, version: tuple[str, int, int]) -> Stream:
    entries = "stream=sample_rate,channels,channel_layout,duration:stream_tags:format=duration,format_name:format_tags"
    command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries", entries, "-of", "json"]
    process = subprocess.run([*command, place.url], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    try:
        report = json.loads(process.stdout.decode(errors="replace"))
        sound, container = report["streams"][0], report.get("format", {})
        rate, channels = int(sound["sample_rate"]), int(sound["channels"])
        if not rate or not channels:
            raise ValueError("the header states no sample rate or no channels")
        seconds = float(sound.get("duration") or container.get("duration") or 0)
    except (ValueError, LookupError):
        errors = process.stderr.decode(errors="replace").strip().splitlines()
        reason = errors[-1].rpartition(": ")[2].strip(" .") if errors else "there is no sound in it"
        raise InputError(f"{place} cannot be read as sound: {reason}.") from None
    tags = {name.lower(): value for entry in (sound, container) for name, value in entry.get("tags", {}).items()}
    layout = tuple(_LAYOUTS.get(sound.get("channel_layout", ""), "").split()) or None
    seekable = bool(_SEEKABLE & set(container.get("format_name", "").split(",")))
    stream = Stream(place.url, round(seconds * rate), rate, channels, layout, tags, seekable)
    # The header of a live recording does not state its length.
    return stream if stream.frames else replace(stream, frames=stream.count())
