"""Compares the instrument that the classifier in numpy hears with the instrument in the prompt."""

from functools import cache

import numpy as np

from benchmarks.judges import instrument
from benchmarks.judges.judge import Case, Column

NEEDS = "instrument"


def judge(case: Case) -> dict[str, Column]:
    """Returns 1 if the classifier names the instrument in the prompt, 0 if it names any other of its instruments."""
    right = []
    for clip in case.made:
        wanted = clip.fields.get("instrument")
        known = wanted in _classifier().names and "key" not in clip.fields and "chord" not in clip.fields
        heard = _classifier().heard(clip.at(instrument.RATE), instrument.RATE) if known else None
        right.append(float(heard == wanted) if known else float("nan"))
    return {"instrument right": Column(np.array(right), higher=True)}


@cache
def _classifier() -> instrument.Classifier:
    return instrument.load()
