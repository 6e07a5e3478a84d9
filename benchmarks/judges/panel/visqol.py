"""ViSQOL in audio mode (Chinen et al. 2020): predicts the opinion score of a clip, 1 to 4.73, with a reference."""

from functools import cache

import numpy as np
from visqol import VisqolApi

from benchmarks.judges.judge import Case, Column

NEEDS = "reference"
RATE = 48_000
SHORTEST = 0.6  # the shortest length of clip and reference in seconds


def judge(case: Case) -> dict[str, Column]:
    """Returns the opinion score of each clip; nan if the clip or its reference is silent or too short."""
    return {"ViSQOL": Column(np.array([_score(made.at(RATE), ref.at(RATE)) for made, ref in case.pairs]), higher=True)}


def _score(made: np.ndarray, reference: np.ndarray) -> float:
    length = min(len(made), len(reference))
    if length < SHORTEST * RATE or not made.any() or not reference.any():
        return float("nan")
    return _api().measure_from_arrays(reference[:length].astype(float), made[:length].astype(float), RATE).moslqo


@cache
def _api() -> VisqolApi:
    api = VisqolApi()
    api.create(mode="audio")
    return api
