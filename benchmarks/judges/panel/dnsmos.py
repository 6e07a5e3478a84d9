"""DNSMOS (Reddy et al. 2022): predicts the opinion score of speech, 1 to 5, without a reference."""

import numpy as np
from speechmos import dnsmos

from benchmarks.judges.judge import Case, Column

NEEDS = "language"
RATE = 16_000


def judge(case: Case) -> dict[str, Column]:
    """Returns the overall score, and the score of the background noise."""
    scores = [dnsmos.run(np.clip(clip.at(RATE), -1, 1), RATE) for clip in case.made]
    return {
        "DNSMOS": Column(np.array([score["ovrl_mos"] for score in scores]), higher=True),
        "DNSMOS background": Column(np.array([score["bak_mos"] for score in scores]), higher=True),
    }
