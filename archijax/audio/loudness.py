"""Levels of sounds: RMS, loudness, and the gain to a given level."""

import math
import threading
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from archijax.audio.place import Place
from archijax.errors import InputWarning

_INTEGER = 32_768  # full scale of 16-bit samples; some programs write such samples to float files unscaled
_BEYOND = 4.0  # 12 dB above full scale; the peaks of a loud mix are lower
_BLOCK, _BLOCKS = 4096, 64  # frames of a block, and the number of blocks in which loud samples are searched
_meter = threading.Lock()
# The results of `full_scale` by path, size and modification time, because many crops share a file.
_scales: dict[tuple[str, int, int], float] = {}


def gain(
    audio: Float[np.ndarray, "time c"], level: float, limit: float = 30.0, sample_rate: int | None = None
) -> np.float32:
    """Returns the factor by which a sound must be multiplied to have a given level.

    The factor is smaller if the peak would exceed 1. The factor is at most ``limit`` dB, so that a very quiet sound,
    such as the end of a fade, stays quiet.

    Args:
        level: the level to reach: an RMS in dBFS, or, if there is a ``sample_rate``, a `loudness` in LUFS.
        limit: the largest factor, in dB.
        sample_rate: in Hz; None: the level is an RMS.
    """
    peak = float(np.abs(audio).max())
    if sample_rate is None:
        size = float(np.sqrt(np.mean(np.square(audio))))
    else:
        size = 10 ** (loudness(audio, sample_rate) / 20)
    bounds = [10 ** (limit / 20)]
    if peak:
        bounds += [10 ** (level / 20) / size, 1 / peak] if size else [1 / peak]
    return np.float32(min(bounds))


def loudness(audio: Float[np.ndarray, "time c"], sample_rate: int) -> float:
    """The integrated loudness in LUFS (ITU-R BS.1770-4); -inf for silence.

    The standard measures blocks of 0.4 s. A shorter sound counts as one block.

    Args:
        audio: the sound, with at most five channels.
        sample_rate: in Hz, at least 4000, which the filters need.
    """
    import pyloudnorm  # imports much of scipy

    block = min(0.4, len(audio) / sample_rate)
    # pyloudnorm changes the filters of warnings, which all threads share.
    with _meter:
        return float(pyloudnorm.Meter(sample_rate, block_size=block).integrated_loudness(audio.astype(np.float64)))


def level(audio: Float[np.ndarray, "time c"]) -> float:
    """The RMS of a sound in dBFS; -200 for silence."""
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-10)


def full_scale(place: Place, frames: int, decode: Callable[[int, int], Float[np.ndarray, "count c"]]) -> float:
    """Returns the number by which to divide the samples of a float file, usually 1. Warns if the number is not 1.

    A file needs scaling if a sample is more than 12 dB above 1. The number is 32,768 if the samples seem to be unscaled
    16-bit samples, else it is the peak. In a long file only 64 blocks are searched for samples more than 12 dB above 1.

    Args:
        place: the file. The result is computed once per file.
        frames: the length of the file in frames.
        decode: a function (begin, count) that returns ``count`` frames from frame ``begin`` on.
    """
    file = place.version()
    if file not in _scales:
        _scales[file] = _scale(place, frames, decode)
    return _scales[file]


def _scale(place: Place, frames: int, decode: Callable[[int, int], Float[np.ndarray, "count c"]]) -> float:
    starts = range(0, frames, max(_BLOCK, frames // _BLOCKS))
    if max((_peak(decode(start, _BLOCK)) for start in starts), default=0.0) <= _BEYOND:
        return 1.0
    block = 16 * _BLOCK
    peak = max(_peak(decode(start, block)) for start in range(0, frames, block))
    # Hardly any 16-bit file has a peak below 1 / 128 of full scale.
    scale = float(_INTEGER) if _INTEGER / 128 <= peak <= _INTEGER else peak
    warnings.warn(f"{place} has samples up to {peak:g}: they are divided by {scale:g}.", InputWarning, stacklevel=3)
    return scale


def _peak(audio: Float[np.ndarray, "time c"]) -> float:
    """The largest finite magnitude of a sample."""
    magnitude = np.abs(audio)
    return float(np.max(magnitude, initial=0.0, where=np.isfinite(magnitude)))
