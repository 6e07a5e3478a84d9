"""Draws sound as PNG files: waveforms, log-frequency spectrograms and mel spectrograms."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, Float32
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from archijax.arithmetic import ceil_div
from archijax.atomic import replacing
from archijax.audio.mel import mel_filters
from archijax.errors import InputError

WINDOW = 0.064  # seconds
ROWS = 256  # rows of a spectrogram's picture, spaced evenly in log-frequency
RANGE = 70.0  # dB from the loudest value down to the darkest colour
TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)  # Hz
BANDS = 80  # rows of a mel spectrogram's picture
COLOURS = "magma"

# [time, channels] or [time]. The axes have no names, because the clips of a grid have different sizes.
Audio = Float[Array | np.ndarray, "_ _"] | Float[Array | np.ndarray, " _"]
# A function (audio, sample rate, largest number of frames) -> levels in dB [rows, frames].
Levels = Callable[[np.ndarray, int, int], np.ndarray]
# A function (frequency, sample rate) -> height on the axis in [0, 1].
Height = Callable[[float, int], float]


def _checked(audio: Audio, sample_rate: int) -> Float32[np.ndarray, "time channels"]:
    """Returns the audio as [time, channels]. Raises InputError if the audio cannot be drawn."""
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
    """Returns the lowest frequency of the axis in Hz: ``min(50, sample_rate / 64)``."""
    return min(50.0, sample_rate / 64)


def _power(audio: Float[np.ndarray, "time c"], sample_rate: int, frames: int) -> Float[np.ndarray, "n frequencies"]:
    """Computes at most `frames` power spectra, averaged over channels. A full-scale sine has a peak of power 1."""
    window = max(16, round(WINDOW * sample_rate))
    hop = max(window // 8, ceil_div(len(audio), frames))
    audio = np.pad(audio, ((window // 2, window), (0, 0)), mode="symmetric")  # zeros would appear as clicks at the ends
    windows = np.lib.stride_tricks.sliding_window_view(audio, window, axis=0)[: len(audio) - 3 * window // 2 : hop]
    hann = np.hanning(window).astype(np.float32)
    size = 2 * window  # finer bins make low notes smooth
    return np.mean(np.abs(np.fft.rfft(windows * hann, size)) ** 2, axis=1) / (hann.sum() / 2) ** 2


def _decibels(power: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return 10 * np.log10(power + 1e-12)


def _levels(audio: Float[np.ndarray, "time c"], sample_rate: int, frames: int) -> Float[np.ndarray, "rows n"]:
    """Computes levels [ROWS, n] in dB relative to a full-scale sine, where n is at most `frames`.

    Rows are spaced evenly in log-frequency, from `_lowest` to half the sample rate. Digital silence is -120 dB.
    """
    level = _decibels(_power(audio, sample_rate, frames))
    edges = np.geomspace(_lowest(sample_rate), sample_rate / 2, ROWS + 1) * (level.shape[1] - 1) / (sample_rate / 2)
    middle = np.sqrt(edges[:-1] * edges[1:])
    low = np.minimum(middle.astype(int), level.shape[1] - 2)
    between = level[:, low] + (level[:, low + 1] - level[:, low]) * (middle - low)
    # A high row covers several bins, and a tone in any of them must be visible. A low row lies between two bins.
    first, last = np.ceil(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    highest = np.maximum.reduceat(level, np.minimum(first, level.shape[1] - 1), axis=1)
    return np.where(last > first, np.maximum(highest, between), between).T


def _mel_levels(audio: Float[np.ndarray, "time c"], sample_rate: int, frames: int) -> Float[np.ndarray, "bands n"]:
    """Computes levels [bands, n] in dB relative to a full-scale sine, where n is at most `frames`.

    Bands are spaced evenly on the mel scale, from 0 Hz to half the sample rate. The number of bands is BANDS, or half
    the number of spectrum bins if that is smaller.
    """
    power = _power(audio, sample_rate, frames)
    bins = power.shape[1]
    filters = np.asarray(mel_filters(2 * (bins - 1), sample_rate, min(BANDS, bins // 2)))
    # The power of a sine, summed over all bins, is 3: a Hann window gives 3 / 2, and the bins are half as wide.
    return _decibels(power @ filters / 3).T


def _loudest(level: Float[np.ndarray, "rows n"]) -> float:
    return max(float(level.max()), -50.0)  # the bound keeps silence dark


def _log_height(frequency: float, sample_rate: int) -> float:
    """Returns the height of a frequency on a log-frequency axis, from 0 (`_lowest`) to 1 (half the sample rate)."""
    return float(np.log(frequency / _lowest(sample_rate)) / np.log(sample_rate / 2 / _lowest(sample_rate)))


def _mel_height(frequency: float, sample_rate: int) -> float:
    """Returns the height of a frequency on a mel axis, from 0 (0 Hz) to 1 (half the sample rate)."""
    return float(np.log1p(frequency / 700) / np.log1p(sample_rate / 2 / 700))


def _draw(
    axes: Axes,
    level: Float[np.ndarray, "rows n"],
    loudest: float,
    seconds: float,
    sample_rate: int,
    height: Height = _log_height,
) -> AxesImage:
    """Draws a spectrogram on axes in seconds and Hz. The colours span RANGE dB below `loudest`."""
    extent = (0, seconds, 0, 1)
    image = axes.imshow(level, origin="lower", aspect="auto", extent=extent, cmap=COLOURS, interpolation="bilinear")
    image.set_clim(loudest - RANGE, loudest)
    heights = {tick: height(tick, sample_rate) for tick in TICKS}
    ticks = [
        tick
        for tick, y in heights.items()
        if 0 <= y <= 1 and height(2 * tick, sample_rate) - y > 0.04  # labels of closer ticks would overlap
    ]
    labels = [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]
    axes.set_yticks([heights[tick] for tick in ticks], labels)
    return image


def _save(figure: Figure, path: str | Path) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)


def _draw_waveform(axes: Axes, audio: Float[np.ndarray, "time c"], sample_rate: int) -> None:
    """Draws the channels below each other, in at most 1500 columns. Each column reaches from its lowest to its highest
    sample."""
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
    path: str | Path, audio: Audio, sample_rate: int, title: str | None, levels: Levels, height: Height
) -> None:
    """Writes a PNG of the waveform above a spectrogram. The function ``levels`` computes the spectrogram."""
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


def waveform(path: str | Path, audio: Audio, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform, with the channels below each other.

    Args:
        path: the PNG file; an existing file is replaced.
        audio: sound [time, channels] or [time], in [-1, 1], of any length.
        sample_rate: in Hz.
        title: the text above the picture; None: no title.

    Raises:
        InputError: the audio is empty or not finite, or the sample rate is not above 0.
    """
    audio = _checked(audio, sample_rate)
    figure = Figure(figsize=(9, 1 + min(audio.shape[1], 8)), layout="constrained")
    axes = figure.subplots()
    _draw_waveform(axes, audio, sample_rate)
    axes.set(xlabel="time (s)", xlim=(0, len(audio) / sample_rate))
    if title:
        axes.set_title(title, parse_math=False)
    _save(figure, path)


def spectrogram(path: str | Path, audio: Audio, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform above a log-frequency spectrogram. Levels are in dB relative to full scale.

    The audio is [time, channels] or [time]. :func:`waveform` explains the arguments and errors.
    """
    _waveform_and(path, audio, sample_rate, title, _levels, _log_height)


def mel_spectrogram(path: str | Path, audio: Audio, sample_rate: int, title: str | None = None) -> None:
    """Writes a PNG of the waveform above a mel spectrogram with 80 HTK bands. Levels are in dB relative to full scale.

    The audio is [time, channels] or [time]. :func:`waveform` explains the arguments and errors.
    """
    _waveform_and(path, audio, sample_rate, title, _mel_levels, _mel_height)


def spectrogram_grid(
    path: str | Path,
    rows: Mapping[str, Sequence[Audio]],
    sample_rate: int,
    columns: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Writes a PNG with a grid of spectrograms. Colours show levels in dB relative to the loudest value of each clip.

    Args:
        path: the PNG file; an existing file is replaced.
        rows: a dict from the name of each row to the clips of the row. A clip is [time, channels] or [time]. All rows
            have the same number of clips.
        sample_rate: in Hz.
        columns: the name of each column, one name per clip of a row; empty: no names.
        title: the text above the picture; None: no title.

    Raises:
        InputError: rows have different numbers of clips, the number of column names is wrong, or a clip cannot be
            drawn.
    """
    counts = {len(clips) for clips in rows.values()} | ({len(columns)} if columns else set())
    if len(counts) != 1 or 0 in counts:
        numbers = ", ".join(f"{name!r} has {len(clips)}" for name, clips in rows.items())
        needed = f"a clip for each of the {len(columns)} column names" if columns else "the same number of clips"
        raise InputError(f"Each row of a grid needs {needed}, at least one, but {numbers or 'there is no row'}.")
    count = counts.pop()
    figure = Figure(figsize=(1.2 + 2.1 * count, 0.9 + 1.9 * len(rows)), layout="constrained")
    grid, image = figure.subplots(len(rows), count, squeeze=False, sharey=True), None
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
