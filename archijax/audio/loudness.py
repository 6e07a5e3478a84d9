"""Levels of sound."""

import math

import numpy as np


def gain(audio: np.ndarray, level: float) -> np.float32:
    """What [time, channels] is multiplied by for a root mean square of ``level`` dBFS, or less where its peak would
    pass 1. What is silent (below -80 dBFS, the noise of 14 bits) stays so: 1."""
    loudness, peak = float(np.sqrt(np.mean(np.square(audio)))), float(np.abs(audio).max())
    return np.float32(1.0 if loudness < 1e-4 else min(10 ** (level / 20) / loudness, 1 / peak))


def level(audio: np.ndarray) -> float:
    """The root mean square of [time, channels] in dBFS; -200 of silence."""
    return 20 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-10)
