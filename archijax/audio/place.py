"""Describes where the bytes of a sound are: a whole file, or a part of a file such as a member of an archive."""

import io
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A whole file, such as ``Place(Path("a.wav"))``, or a part of a file.

    Fields:
        path: the file.
        begin: the position of the first byte of the part.
        end: the position after the last byte of the part; None: the place is the whole file.
        name: the name of the part, such as "sounds/a.wav"; empty for a whole file.
    """

    path: Path
    begin: int = 0
    end: int | None = None
    name: str = ""

    def __str__(self) -> str:
        return str(self.path) if self.end is None else f"{self.path}/{self.name}"

    @property
    def suffix(self) -> str:
        """Returns the suffix of ``name`` (for a whole file, of ``path``) in lower case, such as ".wav"."""
        return os.path.splitext(self.name or self.path)[1].lower()

    @property
    def size(self) -> int:
        """Returns the number of bytes."""
        return (self.path.stat().st_size if self.end is None else self.end) - self.begin

    @property
    def url(self) -> str:
        """Returns the address by which ffmpeg opens the place."""
        if self.end is None:
            return f"file:{self.path}"
        return f"subfile,,start,{self.begin},end,{self.end},,:file:{self.path}"

    def version(self) -> tuple[str, int, int]:
        """Returns (name, size in bytes, modification time in ns), which together identify the contents."""
        return str(self), self.size, self.path.stat().st_mtime_ns

    def open(self, begin: int = 0, end: int | None = None) -> "Window":
        """Opens a part of the place as a binary file.

        Args:
            begin, end: positions in bytes, counted from the beginning of the place. If ``end`` is None, the file ends
                where the place ends.
        """
        return Window(self.path, self.begin + begin, self.begin + (self.size if end is None else end))

    def read(self) -> bytes:
        """Returns all bytes of the place."""
        with self.open() as file:
            return file.read()


class Window(io.RawIOBase):
    """A binary file object that contains only the bytes begin:end of a file."""

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
