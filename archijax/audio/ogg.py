"""Finds the links of Ogg files (RFC 3533). Links are streams that follow each other in one file."""

import functools
import mmap

from archijax.audio.place import Place

_FIRST = b"OggS\x00\x02"  # the start of the first page of a stream: version 0, no other flag
_HEADER = 27  # bytes of a page header before the table of segment sizes


def links(place: Place) -> tuple[tuple[int, int], ...]:
    """Returns pairs (begin, end) with the byte range of each link, counted from the beginning of the place.

    Most Ogg files have one link. For a file that is not Ogg, the result is empty.
    """
    return _links(place, place.version())


# Many crops are read from one file. The cache avoids a search for each crop.
@functools.lru_cache(maxsize=65_536)
def _links(place: Place, version: tuple[str, int, int]) -> tuple[tuple[int, int], ...]:
    begins, expected, end = [], -1, place.begin + place.size
    with place.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.find(_FIRST, place.begin, end)
        while begin >= 0:
            header = data[begin : begin + _HEADER]
            # The first page of a stream has the number 0, and no packet of sound ends on it.
            if len(header) == _HEADER and not any(header[6:14]) and not any(header[18:22]):
                # The first pages of parallel streams follow each other directly; they belong to one link.
                if begin != expected:
                    begins.append(begin)
                segments = data[begin + _HEADER : begin + _HEADER + header[26]]
                expected = begin + _HEADER + len(segments) + sum(segments)
            begin = data.find(_FIRST, begin + 1, end)
    begins = [begin - place.begin for begin in begins]
    return tuple(zip(begins, [*begins, place.size][1:], strict=True))
