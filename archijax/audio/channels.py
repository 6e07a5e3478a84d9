"""Channels: which speaker each is meant for, and the mix to fewer or more of them.

Speakers are named as in Microsoft's WAVEFORMATEXTENSIBLE: front, back, side and top, left, right and centre.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archijax.errors import InputWarning

_MASK = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR"  # by bit

FLAC = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""What the channels of a FLAC file are, by their number (RFC 9639, section 9.1.3)."""

VORBIS = {
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}
"""What the channels of a Vorbis or Opus stream are, by their number (Vorbis I specification, section 4.3.9)."""

# Recommendation ITU-R BS.775-4, table 2: the parts of each speaker in the left and the right of two. Speakers that it
# does not name count as the nearest that it does.
_HALF = 0.5**0.5
_STEREO = {
    "FL": (1, 0),
    "FR": (0, 1),
    "FC": (_HALF, _HALF),
    "LFE": (0, 0),
    "FLC": (1, 0),
    "FRC": (0, 1),
    "BC": (0.5, 0.5),
    "TC": (0.5, 0.5),
    "TFC": (0.5, 0.5),
    "TBC": (0.5, 0.5),
    **dict.fromkeys(("BL", "SL", "TFL", "TBL"), (_HALF, 0)),
    **dict.fromkeys(("BR", "SR", "TFR", "TBR"), (0, _HALF)),
}
_LOSS = 12.0  # dB, beyond which a mix is warned of
_QUIET = 1e-3  # root mean square, below which it is not


def speakers(mask: int) -> tuple[str, ...]:
    """The speakers of a WAVEFORMATEXTENSIBLE channel mask, in the order of the channels."""
    return tuple(name for bit, name in enumerate(_MASK.split()) if mask >> bit & 1)


def mix(audio: np.ndarray, channels: int, layout: Sequence[str] | None, path: str | Path) -> np.ndarray:
    """Brings sound [time, c] to [time, channels].

    One channel is repeated. Where the layout says what more than two channels are, they are mixed to two after ITU-R
    BS.775: 0.707 of the centre and the surrounds, nothing of the low-frequency effects. One channel is the mean of two;
    of channels that are not known, and of other numbers, the mean of all is repeated.

    Warns, once of each file, where the mix is more than 12 dB below the loudest channel.

    Args:
      layout: the speaker of each channel as `speakers` names them, None where the file does not say.
      path: the file, for the warning.
    """
    given = audio.shape[1]
    if given == channels:
        return audio
    if given == 1:
        return audio.repeat(channels, axis=1)
    mixed = audio
    if given > 2 and layout is not None and len(layout) == given:
        mixed = audio @ np.array([_STEREO[name] for name in layout], np.float32)
    if mixed.shape[1] != channels:
        mixed = mixed.mean(axis=1, keepdims=True)
    before, after = _loudest(audio), _loudest(mixed)
    if before > _QUIET and after < before * 10 ** (-_LOSS / 20):
        warnings.warn(
            f"{path} loses more than {_LOSS:.0f} dB when its {given} channels are mixed to {channels}.",
            InputWarning,
            stacklevel=2,
        )
    return mixed.repeat(channels // mixed.shape[1], axis=1) if mixed.shape[1] != channels else mixed


def _loudest(audio: np.ndarray) -> float:
    """Root mean square of the loudest channel."""
    return float(np.sqrt(np.mean(np.square(audio), axis=0).max())) if len(audio) else 0.0
