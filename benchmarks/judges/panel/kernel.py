"""Measures the kernel distance (Binkowski et al. 2018) between musicnn's embeddings of two sets of sounds."""

import numpy as np

from benchmarks.judges import musicnn
from benchmarks.judges.judge import Case, Column

NEEDS = "references"


def judge(case: Case) -> dict[str, Column]:
    """Returns the distance between made and reference clips, as one value. The value is near 0, or below, for equal
    sets."""
    made, reference = (
        np.stack([musicnn.embedding(clip.at(musicnn.RATE)) for clip in clips]) for clips in (case.made, case.reference)
    )
    return {"kernel distance x 1000": Column(np.array([1000 * distance(made, reference)]), higher=False)}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the unbiased squared maximum mean discrepancy of [n, d] and [m, d], with the kernel (x . y / d + 1)^3."""

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):  # leaves out the similarity of an item to itself, which would be a bias
        own = kernel(x, x)
        return (own.sum() - np.trace(own)) / (len(x) * (len(x) - 1))

    a, b = a.astype(float), b.astype(float)
    return float(within(a) + within(b) - 2 * kernel(a, b).mean())
