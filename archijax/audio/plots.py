"""Pictures of sound for the programs: waveform, log-frequency and mel spectrogram, written as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from archijax.arithmetic import ceil_div
from archijax.atomic import replacing
from archijax.audio.mel import mel_filters
from archijax.errors import InputError

WINDOW = 0.064  # seconds
ROWS = 256  # of the picture of a spectrogram, spaced evenly in log-frequency
RANGE = 70.0  # dB from the loudest value down to the darkest colour
TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
BANDS = 80  # of the picture of a mel spectrogram
COLOURS = "magma"

Levels = Callable[[np.ndarray, int, int], np.ndarray]  # (audio, sample rate, most frames) to dB [rows, frames]
Height = Callable[[float, int], float]  # (frequency, sample rate) to the place on the axis, in [0, 1]


def _checked(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    audio = np.asarray(audio, np.float32)
    audio = audio[:, None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or 0 in audio.shape:
        raise InputError(f"The audio to draw has shape {audio.shape}, but [time, channels] is needed, not empty.")
    if not np.isfinite(audio).all():
        raise InputError("The audio to draw holds values that are not finite; only finite samples can be drawn.")
    if sample_rate <= 0:
        raise InputError(f"The sample rate is {sample_rate}, but it must be above 0 Hz.")
    return audio


def _lowest(sample_rate: int) -> float:
    """Where the frequency axis starts, in Hz: 50, and at least five octaves of axis at any sample rate."""
    return min(50.0, sample_rate / 64)


def _power(audio: np.ndarray, sample_rate: int, frames: int) -> np.ndarray:
    """[at most `frames`, frequencies] of Hann windows, averaged over channels: 1 at the peak of a full-scale sine."""
    window = max(16, round(WINDOW * sample_rate))
    hop = max(window // 8, ceil_div(len(audio), frames))
    audio = np.pad(audio, ((window // 2, window), (0, 0)), mode="symmetric")  # zeros would draw clicks at the ends
    cut = np.lib.stride_tricks.sliding_window_view(audio, window, axis=0)[: len(audio) - 3 * window // 2 : hop]
    hann = np.hanning(window).astype(np.float32)
    size = 2 * window  # finer bins, so that low notes are drawn smooth
    return np.mean(np.abs(np.fft.rfft(cut * hann, size)) ** 2, axis=1) / (hann.sum() / 2) ** 2


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 1e-12)


def _levels(audio: np.ndarray, sample_rate: int, frames: int) -> np.ndarray:
    """dB re a full-scale sine, [ROWS, at most `frames`], rows from `_lowest` to half the sample rate. Digital silence
    is -120 dB."""
    level = _decibels(_power(audio, sample_rate, frames))
    edges = np.geomspace(_lowest(sample_rate), sample_rate / 2, ROWS + 1) * (level.shape[1] - 1) / (sample_rate / 2)
    middle = np.sqrt(edges[:-1] * edges[1:])
    low = np.minimum(middle.astype(int), level.shape[1] - 2)
    between = level[:, low] + (level[:, low + 1] - level[:, low]) * (middle - low)
    # High rows cover several bins, and a tone in any of them must show; low rows lie between two bins.
    first, last = np.ceil(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    highest = np.maximum.reduceat(level, np.minimum(first, level.shape[1] - 1), axis=1)
    return np.where(last > first, np.maximum(highest, between), between).T


def _mel_levels(audio: np.ndarray, sample_rate: int, frames: int) -> np.ndarray:
    """dB re a full-scale sine, [bands, at most `frames`], evenly on the mel scale from 0 to half the sample rate: BANDS
    of them, or as many as have bins of their own."""
    power = _power(audio, sample_rate, frames)
    bins = power.shape[1]
    filters = np.asarray(mel_filters(2 * (bins - 1), sample_rate, min(BANDS, bins // 2)))
    return _decibels(power @ filters / 3).T  # a sine's power over all bins is 3: Hann's 3 / 2 on a grid twice as fine


def _loudest(level: np.ndarray) -> float:
    return max(float(level.max()), -50.0)  # so that silence is dark


def _log_height(frequency: float, sample_rate: int) -> float:
    """Where a frequency is on a log-frequency axis from 0, `_lowest`, to 1, half the sample rate."""
    return float(np.log(frequency / _lowest(sample_rate)) / np.log(sample_rate / 2 / _lowest(sample_rate)))


def _mel_height(frequency: float, sample_rate: int) -> float:
    """Where a frequency is on a mel axis from 0, 0 Hz, to 1, half the sample rate."""
    return float(np.log1p(frequency / 700) / np.log1p(sample_rate / 2 / 700))


def _draw(
    axes: Axes, level: np.ndarray, loudest: float, seconds: float, sample_rate: int, height: Height = _log_height
) -> AxesImage:
    """Puts a spectrogram on axes in seconds and Hz; colours span the RANGE dB below `loudest`."""
    extent = (0, seconds, 0, 1)
    image = axes.imshow(level, origin="lower", aspect="auto", extent=extent, cmap=COLOURS, interpolation="bilinear")
    image.set_clim(loudest - RANGE, loudest)
    places = {tick: height(tick, sample_rate) for tick in TICKS}
    ticks = [
        tick
        for tick, place in places.items()
        if 0 <= place <= 1 and height(2 * tick, sample_rate) - place > 0.04  # the names of closer ones would overlap
    ]
    names = [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]
    axes.set_yticks([places[tick] for tick in ticks], names)
    return image


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)


def _draw_waveform(axes: Axes, audio: np.ndarray, sample_rate: int) -> None:
    """Each channel's lowest and highest sample over at most 1500 columns, one above the other."""
    step = ceil_div(len(audio), 1500)
    whole = np.pad(audio, ((0, -len(audio) % step), (0, 0)), mode="edge").reshape(-1, step, audio.shape[1])
    time = np.arange(len(whole)) * step / sample_rate
    for channel in range(audio.shape[1]):
        low, high = whole[:, :, channel].min(axis=1), whole[:, :, channel].max(axis=1)
        shift = -2.2 * channel
        axes.fill_between(time, low + shift, high + shift, linewidth=0.6, color=f"C{channel % 10}", edgecolor="face")
    names = ("left", "right") if audio.shape[1] == 2 else [str(i + 1) for i in range(audio.shape[1])]
    axes.set_yticks([-2.2 * i for i in range(audio.shape[1])], names if audio.shape[1] > 1 else ["0"])
    axes.set_ylim(-2.2 * audio.shape[1] + 1.1, 1.1)
    axes.grid(axis="y", alpha=0.3)


def _waveform_and(
    path: str | Path, audio: np.ndarray, sample_rate: int, title: str | None, levels: Levels, height: Height
) -> None:
    audio = _checked(audio, sample_rate)
    seconds = len(audio) / sample_rate
    figure = Figure(figsize=(9, 5), layout="constrained")
    wave, picture = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.5))
    _draw_waveform(wave, audio, sample_rate)
    level = levels(audio, sample_rate, 1000)
    image = _draw(picture, level, _loudest(level), seconds, sample_rate, height)
    picture.set(xlabel="time (s)", ylabel="frequency (Hz)", xlim=(0, seconds))
    figure.colorbar(image, ax=picture, label="level (dBFS)", pad=0.01)
    if title:
        wave.set_title(title, parse_math=False)
    _save(figure, path)


def waveform(path: str | Path, audio: np.ndarray, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform, one channel above the other.

    `audio` is [time, channels] or [time] in [-1, 1], of any length. Raises InputError for audio that is empty or not
    finite.
    """
    audio = _checked(audio, sample_rate)
    figure = Figure(figsize=(9, 1 + min(audio.shape[1], 8)), layout="constrained")
    axes = figure.subplots()
    _draw_waveform(axes, audio, sample_rate)
    axes.set(xlabel="time (s)", xlim=(0, len(audio) / sample_rate))
    if title:
        axes.set_title(title, parse_math=False)
    _save(figure, path)


def spectrogram(path: str | Path, audio: np.ndarray, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform above a log-frequency spectrogram in dB re full scale.

    `audio` is as for :func:`waveform`, and so are the errors.
    """
    _waveform_and(path, audio, sample_rate, title, _levels, _log_height)


def mel_spectrogram(path: str | Path, audio: np.ndarray, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform above a mel spectrogram, 80 HTK bands in dB re full scale.

    `audio` is as for :func:`waveform`, and so are the errors.
    """
    _waveform_and(path, audio, sample_rate, title, _mel_levels, _mel_height)


def spectrogram_grid(
    path: str | Path,
    rows: Mapping[str, Sequence[np.ndarray]],
    sample_rate: int,
    columns: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Writes a PNG of many spectrograms: a row for each name of `rows`, a column for each of its clips.

    Clips are [time, channels] or [time]; `columns` names the columns. Colours are dB below each clip's own loudest
    value, so quiet clips can be compared with loud ones. Raises InputError when rows differ in their number of clips or
    a clip cannot be drawn.
    """
    counts = {len(clips) for clips in rows.values()} | ({len(columns)} if columns else set())
    if len(counts) != 1 or 0 in counts:
        found = ", ".join(f"{name!r} has {len(clips)}" for name, clips in rows.items())
        raise InputError(
            f"A grid needs rows with equally many clips, one for each of its {len(columns)} column names if there are "
            f"any, but {found or 'there is no row'}."
        )
    count = counts.pop()
    figure = Figure(figsize=(1.2 + 2.1 * count, 0.9 + 1.9 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), count, squeeze=False, sharey=True)
    for line, (name, clips) in zip(grid, rows.items(), strict=True):
        for axes, clip in zip(line, clips, strict=True):
            clip = _checked(clip, sample_rate)
            level = _levels(clip, sample_rate, 400)
            image = _draw(axes, level - _loudest(level), 0.0, len(clip) / sample_rate, sample_rate)
        line[0].set_ylabel(f"{name}\nfrequency (Hz)")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    for axes, name in zip(grid[0], columns, strict=False):
        axes.set_title(name, parse_math=False)
    figure.colorbar(image, ax=grid, label="dB below the loudest", pad=0.01, fraction=0.05)
    if title:
        figure.suptitle(title)
    _save(figure, path)
