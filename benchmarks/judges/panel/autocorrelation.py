"""Our pitch judge by normalised autocorrelation, and periodicity: what the demo uses, beside the judges not ours."""

import numpy as np

from benchmarks.judges.judge import Case, Column
from benchmarks.judges.pitch import pitch

NEEDS = ""
RIGHT = 50  # cents


def judge(case: Case) -> dict[str, Column]:
    """Periodicity, and cents from what was asked for or from the reference's pitch."""
    heard = [pitch(clip.audio, clip.rate) for clip in case.made]
    columns = {"periodicity": Column(np.array([p.periodicity for p in heard]), higher=True)}
    wanted = case.asked("pitch")
    if np.isnan(wanted).all() and case.paired:
        wanted = np.array([pitch(clip.audio, clip.rate).midi for clip in case.reference])
    if not np.isnan(wanted).all():
        cents = 100 * np.abs(np.array([p.midi for p in heard]) - wanted)
        right = np.where(np.isnan(wanted), np.nan, cents <= RIGHT)
        columns |= {"cents off": Column(cents, higher=False), "pitch right": Column(right, higher=True)}
    return columns
