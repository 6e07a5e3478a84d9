"""Judges pitch and periodicity by normalized autocorrelation. Written for this project, also used by the demo."""

import numpy as np

from benchmarks.judges.judge import Case, Column
from benchmarks.judges.pitch import pitch

NEEDS = ""
RIGHT = 50  # cents


def judge(case: Case) -> dict[str, Column]:
    """Returns the periodicity, and how far the pitch is from the prompt's or the reference's, in cents."""
    heard = [pitch(clip.audio, clip.rate) for clip in case.made]
    wanted = case.wanted("pitch", lambda clip: pitch(clip.audio, clip.rate).midi)
    cents = 100 * np.abs(np.array([p.midi for p in heard]) - wanted)
    return {
        "periodicity": Column(np.array([p.periodicity for p in heard]), higher=True),
        "cents off": Column(cents, higher=False),
        "pitch right": Column(np.where(np.isnan(wanted), np.nan, cents <= RIGHT), higher=True),
    }
