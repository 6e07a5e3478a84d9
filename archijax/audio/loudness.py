"""Levels of sound."""

import math
import threading
import warnings
from collections.abc import Callable

import numpy as np

from archijax.audio.place import Place
from archijax.errors import InputWarning

_INTEGER = 32_768  # full scale of 16-bit samples, which some programs write to float files as they are
_BEYOND = 4.0  # 12 dB above full scale: a loud mix stays below
_BLOCK, _BLOCKS = 4096, 64
_meter = threading.Lock()
_scales: dict[tuple[str, int, int], float] = {}  # by path, size and time of modification: crops ask again and again


def gain(audio: np.ndarray, level: float, limit: float = 30.0, sample_rate: int | None = None) -> np.float32:
    """What [time, channels] is multiplied by for a root mean square of ``level`` dBFS, or with a sample rate LUFS.

    Less where its peak would pass 1, and at most ``limit`` dB: what is far quieter than its neighbours, as the end of a
    fade is, stays quieter. `loudness` measures LUFS.
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


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """The integrated loudness of [time, channels], up to five, in LUFS (ITU-R BS.1770-4); -inf of silence.

    Sound shorter than the gating blocks of 0.4 s is one block. The filters need a sample rate of 4 kHz or more.
    """
    import pyloudnorm  # imports much of scipy

    block = min(0.4, len(audio) / sample_rate)
    # It changes the filters of warnings, which belong to all threads.
    with _meter:
        return float(pyloudnorm.Meter(sample_rate, block_size=block).integrated_loudness(audio.astype(np.float64)))


def level(audio: np.ndarray) -> float:
    """The root mean square of [time, channels] in dBFS; -200 of silence."""
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-10)


def full_scale(place: Place, frames: int, decode: Callable[[int, int], np.ndarray]) -> float:
    """What the samples of a file of floats are divided by, 1 for most; warns, once of each file, of any other.

    Samples more than 12 dB beyond 1 are far beyond full scale. They are divided by 32,768 where that fits them, as
    16-bit samples in a float file need it, else by their peak. Of a long file 64 blocks tell whether there are any.

    Args:
      frames: length of the file.
      decode: gives (begin, count) of the samples [count, channels].
    """
    file = place.version()
    if file not in _scales:
        _scales[file] = _scale(place, frames, decode)
    return _scales[file]


def _scale(place: Place, frames: int, decode: Callable[[int, int], np.ndarray]) -> float:
    starts = range(0, frames, max(_BLOCK, frames // _BLOCKS))
    if max((_peak(decode(start, _BLOCK)) for start in starts), default=0.0) <= _BEYOND:
        return 1.0
    block = 16 * _BLOCK
    peak = max(_peak(decode(start, block)) for start in range(0, frames, block))
    # Of 16-bit samples hardly any file is quieter than 1 / 128 at its peak.
    scale = float(_INTEGER) if _INTEGER / 128 <= peak <= _INTEGER else peak
    warnings.warn(f"{place} has samples up to {peak:g}: they are divided by {scale:g}.", InputWarning, stacklevel=3)
    return scale


def _peak(audio: np.ndarray) -> float:
    """The largest finite size of a sample."""
    size = np.abs(audio)
    return float(np.max(size, initial=0.0, where=np.isfinite(size)))
