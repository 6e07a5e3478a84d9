"""Where the bytes of a sound are: a file, or a part of one, as members of archives are."""

import io
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The bytes of a file from `begin` to `end`; without an `end` all of it. A part has a `name` of its own."""

    path: Path
    begin: int = 0
    end: int | None = None
    name: str = ""

    def __str__(self) -> str:
        return str(self.path) if self.end is None else f"{self.path}/{self.name}"

    @property
    def suffix(self) -> str:
        """Of its name, in lower case."""
        return os.path.splitext(self.name or self.path)[1].lower()

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.path.stat().st_size if self.end is None else self.end) - self.begin

    @property
    def url(self) -> str:
        """As ffmpeg takes it."""
        if self.end is None:
            return f"file:{self.path}"
        return f"subfile,,start,{self.begin},end,{self.end},,:file:{self.path}"

    def version(self) -> tuple[str, int, int]:
        """Tells contents apart: name, size and time of modification in ns."""
        return str(self), self.size, self.path.stat().st_mtime_ns

    def open(self, begin: int = 0, end: int | None = None) -> "Window":
        """The bytes, or those from `begin` to `end` of them, as a file."""
        return Window(self.path, self.begin + begin, self.begin + (self.size if end is None else end))

    def read(self) -> bytes:
        """All bytes."""
        with self.open() as file:
            return file.read()


class Window(io.RawIOBase):
    """The bytes from begin to end of a file, as a file."""

    def __init__(self, path: Path, begin: int, end: int):
        self.file = path.open("rb")
        self.begin, self.end = begin, end
        self.file.seek(begin)

    def close(self):
        self.file.close()
        super().close()

    def seek(self, offset, whence=io.SEEK_SET):
        base = {io.SEEK_SET: self.begin, io.SEEK_CUR: self.file.tell(), io.SEEK_END: self.end}[whence]
        return self.file.seek(max(self.begin, base + offset)) - self.begin

    def tell(self):
        return self.file.tell() - self.begin

    def readinto(self, buffer):
        count = max(0, min(len(buffer), self.end - self.file.tell()))
        return self.file.readinto(memoryview(buffer)[:count])

    def read(self, count=-1):
        left = max(0, self.end - self.file.tell())
        return self.file.read(left if count < 0 else min(count, left))
