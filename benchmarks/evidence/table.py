"""Measures whether a generated clip sounds like its prompt, with a small classifier fitted to real clips.

Clips are numpy arrays [n, time, channels] or, mono, [n, time], of any length and sample rate. Clips are first mixed to
mono and set to one loudness, so that the classifier cannot use level or stereo.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archijax.audio.metrics import kernel_distance, log_mel_embedding
from archijax.errors import InputError

WINDOW, HOP = 0.064, 0.016  # seconds
BANDS, LOWEST, HIGHEST = 32, 60.0, 4000.0  # mel bands from LOWEST to HIGHEST Hz, or to half the sample rate
FLOOR = 30.0  # dB below the loudest band of a clip; lower levels count as equal
RIDGE = 0.1


def _mel_filters(sample_rate: int, window: int) -> np.ndarray:
    """Returns triangular filters [window // 2 + 1, BANDS], equally spaced on the HTK mel scale, each with sum 1."""
    highest = min(HIGHEST, sample_rate / 2)
    mels = np.linspace(*(2595 * np.log10(1 + np.array([LOWEST, highest]) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequency = np.fft.rfftfreq(window, 1 / sample_rate)[:, None]
    width = np.maximum(np.diff(edges), sample_rate / window)  # a triangle covers at least one bin
    rise = (frequency - edges[1:-1]) / width[:-1] + 1
    fall = (edges[1:-1] - frequency) / width[1:] + 1
    filters = np.maximum(0, np.minimum(rise, fall))
    return filters / filters.sum(axis=0)


def _levelled(clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mixes clips to mono, removes the constant offset, and scales to unit RMS: [n, time]. Silence stays silent."""
    clips = np.asarray(clips, np.float64)
    if clips.ndim not in (2, 3) or clips.shape[0] == 0 or clips.shape[1] == 0:
        raise InputError(f"Clips have shape {clips.shape}, but [n, time, channels] or [n, time] is needed, not empty.")
    if not np.isfinite(clips).all():
        raise InputError("A clip holds values that are not finite; only finite samples can be heard.")
    if sample_rate <= 0:
        raise InputError(f"The sample rate is {sample_rate}, but it must be above 0 Hz.")
    mono = clips if clips.ndim == 2 else clips.mean(axis=-1)
    mono = mono - mono.mean(axis=1, keepdims=True)
    return mono / np.maximum(np.sqrt(np.mean(mono**2, axis=1, keepdims=True)), 1e-8)


def _mel_power(clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the mel power [n, frames, BANDS] of clips, mixed to mono and scaled to unit RMS. Silence gives zeros."""
    mono = _levelled(clips, sample_rate)
    window, hop = max(16, round(WINDOW * sample_rate)), max(1, round(HOP * sample_rate))
    mono = np.pad(mono, ((0, 0), (0, max(0, window - mono.shape[1]))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window, axis=1)[:, ::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2
    return power @ _mel_filters(sample_rate, window) / np.sum(np.hanning(window) ** 2)


def _decibels(power: np.ndarray) -> np.ndarray:
    """Returns levels in dB relative to each clip's loudest value, softly limited to at least -FLOOR, as for silence."""
    axes = tuple(range(1, power.ndim))
    loudest = np.maximum(power.max(axis=axes, keepdims=True), 1e-20)
    return 10 * np.log10(power / loudest + 10 ** (-FLOOR / 10))


def _cosines(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the first `count` cosine coefficients of [n, BANDS]: the coarse shape, which hardly depends on pitch."""
    bands = values.shape[-1]
    return values @ np.cos(np.pi * np.outer(np.arange(bands) + 0.5, np.arange(count)) / bands)


def features(clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the features [n, 40] by which the classifier compares clips. For each band of the log-mel spectrogram in
    dB, four statistics over time are computed: mean, standard deviation, mean absolute change between frames, and
    median change between frames. The features are the cosine coefficients of these statistics over the bands."""
    level = _decibels(_mel_power(clips, sample_rate))
    change = np.diff(level, axis=1, append=level[:, -1:])
    return np.concatenate(
        [
            _cosines(level.mean(axis=1), 16),
            _cosines(level.std(axis=1), 8),
            _cosines(np.abs(change).mean(axis=1), 8),
            _cosines(np.median(change, axis=1), 8),  # negative for decaying sounds, zero for steady sounds
        ],
        axis=-1,
    )


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns exp(-|a - b|^2 / 2d) for features with d coefficients: 1 for equal clips, near 0 for different clips."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.exp(-np.maximum(squares, 0) / (2 * a.shape[1]))


@dataclass(frozen=True)
class Classifier:
    """A classifier that names the instrument whose real clips are most similar to a clip. `fit` makes a classifier."""

    labels: tuple[str, ...]
    sample_rate: int
    mean: np.ndarray  # [d]
    scale: np.ndarray  # [d]
    examples: np.ndarray  # [m, d], standardized
    votes: np.ndarray  # [m, labels]

    def predict(self, clips: np.ndarray) -> list[str]:
        """Returns the label of each clip in [n, time, channels] or [n, time]. The sample rate must be as in `fit`."""
        seen = (features(clips, self.sample_rate) - self.mean) / self.scale
        return [self.labels[i] for i in np.argmax(_similarity(seen, self.examples) @ self.votes, axis=1)]


def _faster(clips: np.ndarray, speed: float) -> np.ndarray:
    """Plays mono clips [n, time] faster, which shifts their pitch up. Returns [n, time / speed]."""
    place = np.arange(int((clips.shape[1] - 1) / speed) + 1) * speed
    low = np.minimum(place.astype(int), max(clips.shape[1] - 2, 0))
    high = np.minimum(low + 1, clips.shape[1] - 1)
    return clips[:, low] * (1 - (place - low)) + clips[:, high] * (place - low)


def fit(clips: np.ndarray, labels: Sequence[str], sample_rate: int) -> Classifier:
    """Fits kernel ridge regression on one-hot labels: a real clip votes for its own label, the more so the more similar
    it is.

    Augmented clips vote too: with pitches shifted by two and four semitones, and with white noise 10 to 30 dB below the
    clip. The label thus does not depend on the key of the few real pieces or on a little hiss. Raises InputError if
    clips and labels do not match.
    """
    clips = np.asarray(clips, np.float64)
    mono = clips.mean(axis=-1) if clips.ndim == 3 else clips
    if len(labels) != len(mono) or len(set(labels)) < 2:
        raise InputError(
            f"{len(mono)} clips came with {len(labels)} labels of {len(set(labels))} kinds; "
            "one label for each clip and at least two kinds are needed."
        )
    rng = np.random.default_rng(0)
    loudness = np.sqrt(np.mean(mono**2, axis=1, keepdims=True))
    seen = []
    for semitones in (-4, -2, 0, 2, 4):
        moved = _faster(mono, 2 ** (semitones / 12))
        hiss = loudness * 10 ** (-rng.uniform(10, 30, (len(moved), 1)) / 20)
        seen += [features(moved, sample_rate), features(moved + hiss * rng.standard_normal(moved.shape), sample_rate)]
    examples = np.concatenate(seen)
    mean, scale = examples.mean(axis=0), examples.std(axis=0) + 1e-6
    examples = (examples - mean) / scale
    names = tuple(dict.fromkeys(labels))
    wanted = np.tile([[1.0 if name == label else -1.0 for name in names] for label in labels], (len(seen), 1))
    kernel = _similarity(examples, examples) + RIDGE * np.eye(len(examples))
    return Classifier(names, sample_rate, mean, scale, examples, np.linalg.solve(kernel, wanted))


def distance(a_clips: np.ndarray, b_clips: np.ndarray, sample_rate: int) -> float:
    """Returns the distance between two sets of clips: 0 for equal distributions, whatever the sizes of the sets.

    This is the kernel distance between the sets' embeddings (`archijax.audio.metrics.log_mel_embedding`), which contain
    the mean and the standard deviation over time of the level in 64 bands. Clips are first mixed to mono and set to one
    loudness. The standard deviation distinguishes noise from music of the same spectrum.
    """
    a, b = (log_mel_embedding(_levelled(clips, sample_rate)[:, :, None], sample_rate) for clips in (a_clips, b_clips))
    return kernel_distance(a, b)


@dataclass(frozen=True)
class Table:
    """A confusion matrix. The rows are the labels in the prompts, and the columns the labels from the classifier."""

    labels: tuple[str, ...]
    counts: np.ndarray  # [labels, labels]

    @property
    def hits(self) -> int:
        return int(np.trace(self.counts))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def as_dict(self) -> dict:
        """Returns a dict for json.dump: labels, counts, hits and total."""
        return {
            "labels": list(self.labels),
            "counts": self.counts.tolist(),
            "hits": self.hits,
            "total": self.total,
        }

    def text(self, title: str) -> str:
        """Returns lines of text: title and number of hits, then a row for each prompt."""
        width = max(len(label) for label in (*self.labels, "prompt")) + 2
        lines = [f"{title}: {self.hits} of {self.total}"]
        lines.append("prompt".ljust(width) + "".join(label.rjust(width) for label in self.labels))
        for label, row in zip(self.labels, self.counts, strict=True):
            cells = "".join((str(count) if count else ".").rjust(width) for count in row)
            lines.append(label.ljust(width) + cells)
        return "\n".join(lines)


def score(classifier: Classifier, clips: np.ndarray, prompted: Sequence[str]) -> Table:
    """Classifies each clip and compares the result with the prompted label. Raises InputError for an unknown label."""
    unknown = sorted(set(prompted) - set(classifier.labels))
    if unknown:
        raise InputError(f"The classifier knows {', '.join(classifier.labels)}, but not {unknown[0]!r}.")
    place = {label: i for i, label in enumerate(classifier.labels)}
    counts = np.zeros((len(place), len(place)), int)
    for asked, heard in zip(prompted, classifier.predict(clips), strict=True):
        counts[place[asked], place[heard]] += 1
    return Table(classifier.labels, counts)
