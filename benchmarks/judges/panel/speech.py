"""Compares speech with its reference, by PESQ (ITU-T P.862.2) and STOI (Taal et al. 2011)."""

import numpy as np
from pesq import PesqError, pesq
from pystoi import stoi

from benchmarks.judges.judge import Case, Column

NEEDS = "language"
RATE = 16_000


def judge(case: Case) -> dict[str, Column]:
    """Returns wide-band PESQ, 1 to 4.64, and extended STOI, 0 to 1. The clips should be speech."""
    if not case.paired:
        return {}
    rows = np.array([_scores(made.at(RATE), reference.at(RATE)) for made, reference in case.pairs])
    return {"PESQ": Column(rows[:, 0], higher=True), "STOI": Column(rows[:, 1], higher=True)}


def _scores(made: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    length = min(len(made), len(reference))
    made, reference = made[:length], reference[:length]
    try:
        quality = pesq(RATE, reference, made, "wb")
    except PesqError:  # PESQ detects no utterance
        quality = float("nan")
    return quality, float(stoi(reference, made, RATE, extended=True))
