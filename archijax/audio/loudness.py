"""Measures the RMS and the loudness of sounds, and computes the gain that gives a sound a certain level."""

import math
import threading
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from archijax.audio.place import Place
from archijax.errors import InputError, InputWarning

LOWEST_RATE = 4_000  # Hz; the filters of BS.1770 need it
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

    The factor is smaller if the peak of the result would otherwise exceed 1. The factor is at most ``limit`` dB, so a
    very quiet sound, such as the end of a fade, stays quiet.

    Args:
        audio: the sound, not empty.
        level: the level of the result: an RMS in dBFS if ``sample_rate`` is None, else a `loudness` in LUFS.
        limit: the largest allowed factor, in dB.
        sample_rate: in Hz; needed only if the level is a loudness.
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
    """Returns the integrated loudness in LUFS (ITU-R BS.1770-4); -inf for silence.

    The standard measures blocks of 0.4 s. A shorter sound counts as one block.

    Args:
        audio: the sound, with at most five channels.
        sample_rate: in Hz; at least LOWEST_RATE, because of the filters of the standard.

    Raises:
        InputError: the sound has more than five channels, or a lower sample rate.
    """
    if sample_rate < LOWEST_RATE or audio.shape[1] > 5:
        raise InputError(
            f"loudness in LUFS is defined for at least {LOWEST_RATE} Hz and at most 5 channels: the sound has "
            f"{sample_rate} Hz and {audio.shape[1]} channels"
        )
    import pyloudnorm  # imports much of scipy

    block = min(0.4, len(audio) / sample_rate)
    # pyloudnorm changes the filters of warnings, which all threads share.
    with _meter:
        return float(pyloudnorm.Meter(sample_rate, block_size=block).integrated_loudness(audio.astype(np.float64)))


def level(audio: Float[np.ndarray, "time c"]) -> float:
    """Returns the RMS of a sound in dBFS; -200 for silence."""
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-10)


def full_scale(place: Place, frames: int, decode: Callable[[int, int], Float[np.ndarray, "count c"]]) -> float:
    """Returns the number by which to divide the samples of a float file, usually 1. Warns if the number is not 1.

    The number is 1 if no sample is more than 12 dB above full scale (a magnitude of 4). Otherwise, the number is 32,768
    if the samples seem to be unscaled 16-bit samples, or else the peak. In a long file, only about 64 blocks are
    searched for louder samples.

    Args:
        place: the file, such as ``Place(Path("a.wav"))``. The result for a file is computed only once.
        frames: the length of the file in samples per channel.
        decode: a function (begin, count) that returns ``count`` frames [count, c] from frame ``begin`` on.
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
    """Returns the largest magnitude of the finite samples, or 0 if there are none."""
    magnitude = np.abs(audio)
    return float(np.max(magnitude, initial=0.0, where=np.isfinite(magnitude)))
