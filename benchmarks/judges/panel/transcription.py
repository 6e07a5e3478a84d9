"""Transcribes phrases by basic-pitch (Bittner et al. 2022), and compares with the prompt's key and the known notes."""

import contextlib
import io
import logging
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf

from benchmarks.judges.judge import Case, Clip, Column

NEEDS = ""
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
RATE = 22_050
ONSET, PITCH = 0.05, 0.5  # the largest differences of equal notes, in seconds and semitones


def judge(case: Case) -> dict[str, Column]:
    """Returns the share of notes in the prompt's key, and the F1 score against the known or the reference's notes."""
    heard = [notes(clip) for clip in case.made]
    share = [_in_key(found, clip.fields.get("key")) for found, clip in zip(heard, case.made, strict=True)]
    score = [_f1(found, _wanted(case, i)) for i, found in enumerate(heard)]
    return {"notes in key": Column(np.array(share), True), "notes F1": Column(np.array(score), True)}


def _wanted(case: Case, i: int) -> list[tuple[float, float, int]]:
    """Returns the notes that clip i should have, from its fields or its transcribed reference; none for drums."""
    fields = case.made[i].fields
    if fields.get("kind") == "drums":
        return []
    if "notes" in fields:
        return [tuple(note[:3]) for note in fields["notes"]]
    return notes(case.reference[i]) if case.paired else []


def notes(clip: Clip) -> list[tuple[float, float, int]]:
    """Returns (start in seconds, duration in seconds, MIDI number) of each note in a clip."""
    model, predict = _model()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "clip.wav")
        sf.write(path, clip.at(RATE), RATE)
        _, _, events = predict(path, model)
    return [(float(start), float(end - start), int(pitch)) for start, end, pitch, *_ in sorted(events)]


def _in_key(found: list[tuple[float, float, int]], key: object) -> float:
    """Returns the share of the notes' total time that is in the key; nan without a key, 0 without notes."""
    if key is None:
        return float("nan")
    root, mode = str(key).split(" ", 1)
    members = {(CLASSES.index(root) + step) % 12 for step in SCALES[mode]}
    total = sum(duration for _, duration, _ in found)
    return sum(duration for _, duration, pitch in found if pitch % 12 in members) / total if total else 0.0


def _f1(found: list, true: list) -> float:
    """Returns the F1 score. A note is right if its onset and its pitch are right (Raffel et al. 2014)."""
    if not true:
        return float("nan")
    left, hits = list(true), 0
    for start, _, pitch in found:
        match = next((n for n in left if abs(n[0] - start) <= ONSET and abs(n[2] - pitch) <= PITCH), None)
        if match:
            left.remove(match)
            hits += 1
    return 2 * hits / (len(found) + len(true))


@cache
def _model():
    # This import is late, because it warns of each framework that is not installed.
    logging.disable(logging.WARNING)
    from basic_pitch import FilenameSuffix, build_icassp_2022_model_path
    from basic_pitch.inference import Model, predict

    return Model(build_icassp_2022_model_path(FilenameSuffix.onnx)), predict
