"""Sound as the program ``ffmpeg`` decodes it, where it is installed: formats that libsndfile does not know."""

import contextlib
import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np

from archijax.audio.place import Place
from archijax.errors import InputError

_BLOCK = 65_536
# Containers whose index leads to any moment. In the others a seek lands seconds away: they are decoded from the start.
_SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm", "asf", "ape", "wv", "tta"})
_DELAY = 0.1  # seconds
_PREROLL = 0.5  # seconds decoded before a crop: codecs need what comes before, and timestamps are rounded
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
    """Whether there are the programs ffmpeg and ffprobe."""
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


@dataclass(frozen=True)
class Stream:
    """The first sound stream of a file: `libsndfile.Stream` says what the attributes are."""

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
        """Whether the length is not stated but guessed."""
        return not self.seekable

    @property
    def promised(self) -> int:
        """The length that the header states, less what the codecs' delays may have added to it."""
        return max(0, self.frames - int(_DELAY * self.sample_rate))

    def decode(self, begin: int, count: int) -> np.ndarray:
        """float32 [up to count, channels] from frame `begin`; fewer at the end of the file."""
        ahead = int(_PREROLL * self.sample_rate)
        origin = begin - ahead if self.seekable and begin > 2 * ahead else 0
        size, skip, pieces = 4 * self.channels, begin - origin, []
        with self._decoder(origin) as output:
            while count > 0 and (data := output.read(_BLOCK * size)):
                block = np.frombuffer(data[: len(data) // size * size], np.float32).reshape(-1, self.channels)
                kept = block[skip : skip + count]
                pieces.append(kept)
                skip, count = max(0, skip - len(block)), count - len(kept)
        return np.concatenate([np.zeros((0, self.channels), np.float32), *pieces])

    def count(self) -> int:
        """The number of frames that really can be decoded."""
        total = 0
        with self._decoder(0) as output:
            while data := output.read(_BLOCK * 4 * self.channels):
                total += len(data)
        return total // (4 * self.channels)

    @contextlib.contextmanager
    def _decoder(self, origin: int) -> Iterator[IO[bytes]]:
        """The output of ffmpeg, decoding from a frame on."""
        seek = ["-ss", f"{origin / self.sample_rate:.9f}"] if origin else []
        form = ["-f", "f32le", "-ar", str(self.sample_rate), "-ac", str(self.channels), "pipe:1"]
        command = ["ffmpeg", "-nostdin", "-v", "quiet", *seek, "-i", self.url, "-map", "0:a:0", *form]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                yield process.stdout
            finally:
                process.kill()


def stream(place: Place) -> Stream:
    """A sound. Raises InputError if ffmpeg is not installed or finds none."""
    if not installed():
        raise InputError(f"{place} cannot be read as sound: {place.suffix} files need ffmpeg, which is not installed.")
    return _stream(place, place.version())


# What crops of a file are read from is looked up once.
@functools.lru_cache(maxsize=65_536)
def _stream(place: Place, version: tuple[str, int, int]) -> Stream:
    shown = "stream=sample_rate,channels,channel_layout,duration:stream_tags:format=duration,format_name:format_tags"
    command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-show_entries", shown, "-of", "json"]
    done = subprocess.run([*command, place.url], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    try:
        found = json.loads(done.stdout.decode(errors="replace"))
        sound, container = found["streams"][0], found.get("format", {})
        rate, channels = int(sound["sample_rate"]), int(sound["channels"])
        if not rate or not channels:
            raise ValueError("the header tells nothing")
        seconds = float(sound.get("duration") or container.get("duration") or 0)
    except (ValueError, LookupError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1].rpartition(": ")[2].strip(" .") if said else "there is no sound in it"
        raise InputError(f"{place} cannot be read as sound: {reason}.") from None
    tags = {name.lower(): value for some in (sound, container) for name, value in some.get("tags", {}).items()}
    layout = tuple(_LAYOUTS.get(sound.get("channel_layout", ""), "").split()) or None
    seekable = bool(_SEEKABLE & set(container.get("format_name", "").split(",")))
    stream = Stream(place.url, round(seconds * rate), rate, channels, layout, tags, seekable)
    # What was recorded while it came in does not say how long it is.
    return stream if stream.frames else replace(stream, frames=stream.count())
