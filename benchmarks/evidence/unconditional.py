"""Measures the distance between sounds of unconditional models and held-out sounds, by the number of sampling steps."""

import numpy as np

from archijax.audio.metrics import kernel_distance, log_mel_embedding
from benchmarks.evidence.clips import Case, Rows, clips

COUNT = 128  # sounds
STEPS = (5, 15, 50, 200)


def unconditional(case: Case) -> tuple[Rows, dict[str, bool]]:
    """Returns (table, {}) for a model without text: the distance of its sounds from held-out ones, by DDIM steps.

    The distance is 1000 times the kernel distance of log-mel embeddings
    (:func:`archijax.audio.metrics.log_mel_embedding`) from every second held-out piece. For comparison, the table shows
    the distance between these and the other held-out pieces.
    """
    pipeline = case.pipeline
    rate, pieces = pipeline.config.sample_rate, list(clips(pipeline, case.heldout))
    others = np.concatenate(pieces[1::2])
    known = log_mel_embedding(np.concatenate(pieces[::2]), rate)

    def distance(sounds: np.ndarray) -> float:
        return 1000 * kernel_distance(log_mel_embedding(np.clip(sounds, -1, 1), rate), known)

    row = {}
    for steps in STEPS:
        sounds, _ = pipeline.generate(count=COUNT, num_steps=steps, batch_size=COUNT)
        row[f"{steps} steps"] = distance(sounds)
    return {"trained": row, "held-out sounds": {name: distance(others) for name in row}}, {}
