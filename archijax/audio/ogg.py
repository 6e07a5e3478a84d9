"""The links of Ogg files (RFC 3533): streams that follow each other, as in recordings of radio stations."""

import functools
import mmap
import os
from pathlib import Path

_FIRST = b"OggS\x00\x02"  # the start of the first page of a stream: version 0, no other flag
_HEADER = 27  # bytes of a page header before the table of segment sizes


def links(path: str | Path) -> tuple[tuple[int, int], ...]:
    """(begin, end) of each link of an Ogg file, in bytes. Most files have one link; without a stream there is none."""
    status = os.stat(path)
    return _links(str(path), status.st_size, status.st_mtime_ns)


# Many crops are read from one file. The cache avoids a search for each of them.
@functools.lru_cache(maxsize=65_536)
def _links(path: str, size: int, modified: int) -> tuple[tuple[int, int], ...]:
    begins, expected = [], -1
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.find(_FIRST)
        while begin >= 0:
            header = data[begin : begin + _HEADER]
            # The first page of a stream has the number 0, and no packet of sound ends on it.
            if len(header) == _HEADER and not any(header[6:14]) and not any(header[18:22]):
                # The first pages of parallel streams follow each other directly; they belong to one link.
                if begin != expected:
                    begins.append(begin)
                segments = data[begin + _HEADER : begin + _HEADER + header[26]]
                expected = begin + _HEADER + len(segments) + sum(segments)
            begin = data.find(_FIRST, begin + 1)
    return tuple(zip(begins, [*begins[1:], size], strict=True))
