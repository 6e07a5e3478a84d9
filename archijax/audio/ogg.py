"""The links of Ogg files (RFC 3533): streams one after the other, as recordings of radio stations have them."""

import functools
import mmap

from archijax.audio.place import Place

_FIRST = b"OggS\x00\x02"  # a page of version 0 that begins a stream and nothing else
_HEADER = 27  # bytes of a page's header before the sizes of its segments


def links(sound: Place) -> tuple[tuple[int, int], ...]:
    """(begin, end) in bytes of each link of an Ogg file; one for most files, none where no stream begins."""
    return _links(sound, sound.version())


# What crops of a file are read from is looked up once.
@functools.lru_cache(maxsize=65_536)
def _links(sound: Place, version: tuple[str, int, int]) -> tuple[tuple[int, int], ...]:
    begins, expected, end = [], -1, sound.begin + sound.size
    with sound.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_FIRST, sound.begin, end)
        while place >= 0:
            header = data[place : place + _HEADER]
            # The first page of a stream has number 0 and ends no packet of sound.
            if len(header) == _HEADER and not any(header[6:14]) and not any(header[18:22]):
                # Streams that sound together have their first pages side by side.
                if place != expected:
                    begins.append(place)
                segments = data[place + _HEADER : place + _HEADER + header[26]]
                expected = place + _HEADER + len(segments) + sum(segments)
            place = data.find(_FIRST, place + 1, end)
    begins = [begin - sound.begin for begin in begins]
    return tuple(zip(begins, [*begins[1:], sound.size], strict=True))
