"""Which sounds are held out: a tenth, the same at every rendering, whatever else is rendered."""

import zlib


def part(*what: object) -> str:
    """Either "train" or, for a tenth of what there is, "heldout": by a hash of what the sound is."""
    text = " ".join(map(str, what))
    return "heldout" if zlib.crc32(text.encode()) % 10 == 0 else "train"
