"""Names the speaker of each channel of a sound, and mixes sound to another number of channels.

Speakers have the short names of Microsoft's WAVEFORMATEXTENSIBLE, such as "FL" for front left and "LFE" for
low-frequency effects.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from archijax.errors import InputWarning

_MASK = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR"  # in the order of the mask's bits

FLAC = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""Maps the number of channels of a FLAC file to the speaker of each channel (RFC 9639, section 9.1.3)."""

VORBIS = {
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}
"""Maps the number of channels of a Vorbis or Opus stream to the speaker of each channel (Vorbis I specification,
section 4.3.9)."""

# Recommendation ITU-R BS.775-4, table 2: the gain of each speaker in the left and the right channel of a stereo mix.
# A speaker that the table does not name has the gains of the nearest speaker.
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
_LOSS = 12.0  # dB; a mix that loses more gives a warning
_QUIET = 1e-3  # RMS; quieter sound gives no warning


def speakers(mask: int) -> tuple[str, ...]:
    """Returns the speakers whose bits are set in a WAVEFORMATEXTENSIBLE channel mask, in the order of the channels.

    For example, ``speakers(3)`` returns ("FL", "FR").
    """
    return tuple(name for bit, name in enumerate(_MASK.split()) if mask >> bit & 1)


def mix(
    audio: Float[np.ndarray, "time c"], channels: int, layout: Sequence[str] | None, path: object
) -> Float[np.ndarray, "time {channels}"]:
    """Mixes sound [time, c] to sound [time, channels].

    Mono sound is copied to every channel. Sound with more than two channels and a known layout is first mixed to stereo
    with the gains of ITU-R BS.775. For example, the centre channel has a gain of 0.707, and the low-frequency channel
    is dropped. If the number of channels is still not ``channels``, the mean over the channels is copied to every
    channel of the result.

    Warns (InputWarning) if the RMS of the loudest channel falls by more than 12 dB, except in nearly silent sound.

    Args:
        channels: the number of channels of the result.
        layout: the speaker of each channel of ``audio``, such as ("FL", "FR", "FC"); None if the speakers are unknown.
        path: the name of the file, for the warning.
    """
    channels_in = audio.shape[1]
    if channels_in == channels:
        return audio
    if channels_in == 1:
        return audio.repeat(channels, axis=1)
    mixed = audio
    if channels_in > 2 and layout is not None and len(layout) == channels_in:
        mixed = audio @ np.array([_STEREO[name] for name in layout], np.float32)
    if mixed.shape[1] != channels:
        mixed = mixed.mean(axis=1, keepdims=True)
    before, after = _loudest(audio), _loudest(mixed)
    if before > _QUIET and after < before * 10 ** (-_LOSS / 20):
        warnings.warn(
            f"{path} loses more than {_LOSS:.0f} dB when its {channels_in} channels are mixed to {channels}.",
            InputWarning,
            stacklevel=2,
        )
    return mixed.repeat(channels // mixed.shape[1], axis=1) if mixed.shape[1] != channels else mixed


def _loudest(audio: Float[np.ndarray, "time c"]) -> float:
    """Returns the RMS of the loudest channel, or 0 if there are no samples."""
    return float(np.sqrt(np.mean(np.square(audio), axis=0).max())) if len(audio) else 0.0
