"""Measures the tempo of a phrase or a loop with librosa, and compares it with the tempo in the prompt."""

import librosa
import numpy as np

from benchmarks.judges.judge import Case, Clip, Column

NEEDS = "tempo"
RIGHT = 0.04
# For listeners, double or half the tempo is the same tempo.
OCTAVES = (0.5, 1.0, 2.0)
RATE = 22_050


def judge(case: Case) -> dict[str, Column]:
    """Returns the error of the tempo in percent, ignoring factors of two, and whether the error is at most 4 %."""
    wanted = case.asked("tempo")
    off = np.array([_off(clip, tempo) for clip, tempo in zip(case.made, wanted, strict=True)])
    right = np.where(np.isnan(off), np.nan, off <= 100 * RIGHT)
    return {"tempo off (%)": Column(off, higher=False), "tempo right": Column(right, higher=True)}


def _off(clip: Clip, wanted: float) -> float:
    if np.isnan(wanted):
        return float("nan")
    heard = tempo(clip)
    return float(min(abs(heard * octave / wanted - 1) for octave in OCTAVES) * 100)


def tempo(clip: Clip) -> float:
    """Returns the beats per minute of a clip, or 0 if the clip is not periodic."""
    envelope = librosa.onset.onset_strength(y=clip.at(RATE), sr=RATE, hop_length=128)
    # Autocorrelation of the onsets, refined by a parabola, because librosa's grid of lags is coarse at fast tempi.
    frames = RATE / 128
    strength = librosa.autocorrelate(envelope - envelope.mean(), max_size=int(4 * frames))
    lags = np.arange(int(60 / 240 * frames), min(len(strength) - 1, int(60 / 45 * frames)))
    # People prefer to tap at about 110 beats per minute (Ellis 2007, "Beat tracking by dynamic programming").
    prior = np.exp(-0.5 * (np.log2(60 * frames / lags / 110) / 1.0) ** 2)
    peak = int(lags[np.argmax(strength[lags] * prior)])
    before, at, after = strength[peak - 1 : peak + 2]
    bend = before - 2 * at + after
    return float(60 * frames / (peak + (0.5 * (before - after) / bend if bend < 0 else 0.0)))
