"""CREPE: measures the pitch by a third-party network, and compares it with the prompt's or the reference's pitch."""

import numpy as np

from benchmarks.judges import crepe
from benchmarks.judges.judge import Case, Clip, Column

NEEDS = ""
LOUD = 10 ** (-25 / 10)
RIGHT = 50  # cents


def judge(case: Case) -> dict[str, Column]:
    """Returns the confidence in a pitch, and how far the pitch is from the prompt's or the reference's, in cents."""
    heard, confidence = _heard(case.made)
    wanted = case.wanted("pitch", lambda clip: _pitch(clip)[0])
    cents = 100 * np.abs(heard - wanted)
    return {
        "CREPE confidence": Column(confidence, higher=True),
        "CREPE cents off": Column(cents, higher=False),
        "CREPE pitch right": Column(np.where(np.isnan(wanted), np.nan, cents <= RIGHT), higher=True),
    }


def _heard(clips) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array(list(map(_pitch, clips))).T)


def _pitch(clip: Clip) -> tuple[float, float]:
    """Returns (the pitch as a MIDI number, the confidence), as medians over the loud frames of a clip."""
    hertz, sure, energy = crepe.track(clip.at(crepe.RATE))
    loud = energy > LOUD * energy.max(initial=0.0)
    if not loud.any():
        return float("nan"), 0.0
    midi = 69 + 12 * np.log2(hertz[loud] / 440)
    order = np.argsort(midi)
    weight = np.cumsum(sure[loud][order])
    return float(midi[order][np.searchsorted(weight, weight[-1] / 2)]), float(np.median(sure[loud]))
