"""Counts the prompts that a text model follows, as judged by a classifier fitted to real clips."""

from dataclasses import replace

import numpy as np

from archijax.audio import files
from archijax.errors import InputError
from benchmarks.evidence import music, table
from benchmarks.evidence.clips import Case, Rows
from sample.__main__ import main as sample

COUNT = 4  # sounds of each prompt
FITTED = 60  # real clips per instrument to fit the classifier
CHECKED = 2  # pieces per instrument to check the classifier
PROMISED = 18  # hits of 24
RATE = 8000  # Hz; the classifier hears nothing above 4 kHz


def prompts(case: Case) -> tuple[Rows, dict[str, bool]]:
    """Returns (table, promises) for a text model of the synthetic music. The model's sounds have the training length,
    and twice that length.

    Each row counts how many of 24 sounds match the prompt: generated sounds, real sounds, and generated sounds with
    shuffled prompts.
    """
    config, rng = case.pipeline.config, np.random.default_rng(0)
    rate = min(RATE, config.sample_rate)
    heard = replace(config, sample_rate=rate, channels=1, length=config.length * rate // config.sample_rate)
    tracks = sorted(case.heldout, key=lambda path: int(path.name[:2]))
    check = tracks[-CHECKED * len(music.INSTRUMENTS) :]
    clips, labels = music.clips([path for path in tracks if path not in check], FITTED, rng, heard)
    classifier = table.fit(clips, labels, rate)
    rows = {"real": {"hits of 24": table.score(classifier, *music.clips(check, COUNT, rng, heard)).hits}}
    for name, times in {"trained": 1, "twice as long": 2}.items():
        sounds, prompted = _sounds(case, times, rate)
        rows[name] = {"hits of 24": table.score(classifier, sounds, prompted).hits}
        if times == 1:
            shuffled = list(rng.permutation(prompted))
            rows["prompts shuffled"] = {"hits of 24": table.score(classifier, sounds, shuffled).hits}
    return rows, {f"at least {PROMISED} of 24 prompts followed": rows["trained"]["hits of 24"] >= PROMISED}


def _sounds(case: Case, times: int, rate: int) -> tuple[np.ndarray, list[str]]:
    """Generates (sounds [24, time, 1] with `times` the training length, the instruments in the prompts)."""
    config, out = case.pipeline.config, case.run / f"sounds_{times}"
    asked = [part for name in music.INSTRUMENTS for part in ("--prompt", name)]
    seconds = times * config.length / config.sample_rate
    arguments = [
        "--model",
        case.run,
        "--out",
        out,
        "--count",
        COUNT,
        "--guidance-scale",
        1.5,
        "--seconds",
        seconds,
    ]
    if sample(["generate", *map(str, arguments), *asked]):
        raise InputError(f"{case.run} could not be sampled.")
    pairs = [(path, name) for name in music.INSTRUMENTS for path in sorted(out.glob(f"{name}_*.wav"))]
    return np.stack([files.read(path, sample_rate=rate, channels=1) for path, _ in pairs]), [name for _, name in pairs]
