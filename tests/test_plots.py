import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from archijax.audio import plots
from archijax.errors import InputError


def _sine(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("frequency", [220.0, 1234.0, 2000.0])
@pytest.mark.parametrize("rate", [8000, 48_000])
def test_a_full_scale_sine_is_0_dbfs_at_its_frequency(frequency, rate):
    level = plots._levels(_sine(frequency, rate)[:, None], rate, frames=200)
    edges = np.geomspace(50, rate / 2, plots.ROWS + 1)
    rows = np.sqrt(edges[:-1] * edges[1:])
    middle = level[:, level.shape[1] // 2]
    assert rows[np.argmax(middle)] == pytest.approx(frequency, rel=0.04)
    assert middle.max() == pytest.approx(0, abs=1.0)
    assert middle[np.abs(np.log2(rows / frequency)) > 1].max() < -60


def test_time_runs_from_left_to_right_over_the_whole_clip():
    audio = np.concatenate([np.zeros(4000), _sine(1000.0, 8000, 0.5)])[:, None].astype(np.float32)
    loud = plots._levels(audio, 8000, frames=100).max(axis=0) > -20
    assert loud.mean() == pytest.approx(0.5, abs=0.06)
    assert not loud[0]
    assert loud[-1]


@pytest.mark.parametrize("frequency", [300.0, 1234.0, 3000.0])
@pytest.mark.parametrize("rate", [8000, 48_000])
def test_a_full_scale_sine_fills_its_mel_band(frequency, rate):
    level = plots._mel_levels(_sine(frequency, rate)[:, None], rate, frames=200)
    middle = level[:, level.shape[1] // 2]
    assert len(middle) == plots.BANDS
    # Bands are at (i + 1) / (BANDS + 1) of the axis, rows drawn at (i + 0.5) / BANDS.
    loudest = (np.argmax(middle) + 0.5) / plots.BANDS
    assert loudest == pytest.approx(plots._mel_height(frequency, rate), abs=1 / plots.BANDS)
    # Neighbouring triangles sum to 1, so the louder band has at least half of the power.
    assert -3.2 < middle.max() < 0.1
    assert np.median(middle) < -60


@pytest.mark.parametrize(("frequency", "place"), [(0, 0), (4000, 1), (1000, 0.466)])
def test_mel_axis(frequency, place):
    assert plots._mel_height(frequency, 8000) == pytest.approx(place, abs=1e-3)


@pytest.mark.parametrize("rate", [60, 3000, 8001, 96_000])
def test_mel_spectrogram_at_any_rate_and_of_silence(tmp_path, rate):
    noise = np.random.default_rng(0).normal(0, 0.1, (rate, 1)).astype(np.float32)
    assert plots._mel_levels(noise, rate, frames=100).min() > -80, "every band has bins"
    plots.mel_spectrogram(tmp_path / "silence.png", np.zeros((rate, 2)), rate, "Nothing")
    picture = matplotlib.image.imread(tmp_path / "silence.png")
    assert picture.shape[:2] == (550, 990)
    assert picture[350, 400, :3].max() < 0.05, "silence is dark"


@pytest.mark.parametrize(("shape", "height"), [((800,), 220), ((800, 2), 330), ((1, 1), 220), ((800, 40), 990)])
def test_waveform_grows_with_its_channels(tmp_path, shape, height):
    plots.waveform(tmp_path / "wave.png", np.random.default_rng(0).uniform(-1, 1, shape), 8000, "$noise")
    assert matplotlib.image.imread(tmp_path / "wave.png").shape[:2] == (height, 990)
    assert [file.name for file in tmp_path.iterdir()] == ["wave.png"]


def test_waveform_draws_what_is_loud(tmp_path):
    audio = np.concatenate([np.zeros(4000), _sine(2100.0, 8000, 0.5)])
    plots.waveform(tmp_path / "wave.png", audio, 8000)
    picture = matplotlib.image.imread(tmp_path / "wave.png")[..., :3]
    coloured = (picture.max(axis=-1) - picture.min(axis=-1) > 0.2)[:, 60:-15].mean(axis=0)
    half = len(coloured) // 2
    assert coloured[half + 30 : -30].min() > 0.3
    assert coloured[30 : half - 30].max() < 0.05


@pytest.mark.parametrize("shape", [(8000,), (8000, 1), (5000, 2), (30, 2), (1, 1), (700, 9)])
def test_spectrogram_of_any_shape(tmp_path, shape):
    path = tmp_path / "new" / "picture.png"
    plots.spectrogram(path, np.random.default_rng(0).uniform(-1, 1, shape), 8000, title="noise")
    assert matplotlib.image.imread(path).shape[:2] == (550, 990)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"], "no unfinished file is left"


@pytest.mark.parametrize("rate", [60, 3000, 96_000])
def test_spectrogram_at_any_rate_and_of_silence(tmp_path, rate):
    plots.spectrogram(tmp_path / "silence.png", np.zeros((rate, 2), np.float32), rate)
    picture = matplotlib.image.imread(tmp_path / "silence.png")
    assert picture[350, 400, :3].max() < 0.05, "silence is dark"


def test_grid_draws_each_clip_in_its_cell(tmp_path):
    clips = [_sine(500.0, 8000), np.zeros((3000, 2))]
    rows = {"real": clips, "generated": [0.01 * clips[0], np.ones((40, 1))]}
    plots.spectrogram_grid(tmp_path / "grid.png", rows, 8000, ["tone", "other"], "Both")
    picture = matplotlib.image.imread(tmp_path / "grid.png")
    height, width = picture.shape[:2]
    tone = picture[: height // 2, 100 : width // 2 - 40, :3]
    silence = picture[height // 4, width // 2 + 60, :3]
    assert (tone.min(axis=-1) > 0.6).any()
    assert silence.max() < 0.05


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ({"real": [np.ones(9)], "generated": []}, (), "'generated' has 0"),
        ({"real": [np.ones(9)]}, ("a", "b"), "2 column names"),
        ({}, (), "there is no row"),
        ({"real": [np.full(9, np.nan)]}, (), "not finite"),
    ],
)
def test_grids_that_cannot_be_drawn(tmp_path, rows, columns, message):
    with pytest.raises(InputError, match=message):
        plots.spectrogram_grid(tmp_path / "grid.png", rows, 8000, columns)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((0, 2)), 8000, r"shape \(0, 2\)"),
        (np.zeros((1, 2, 3)), 8000, r"\[time, channels\] is needed"),
        (np.array([0.0, np.inf]), 8000, "not finite"),
        (np.zeros(5), 0, "sample rate is 0"),
    ],
)
@pytest.mark.parametrize("draw", [plots.waveform, plots.spectrogram, plots.mel_spectrogram])
def test_audio_that_cannot_be_drawn(unchecked, tmp_path, draw, audio, rate, message):
    with pytest.raises(InputError, match=message):
        draw(tmp_path / "picture.png", audio, rate)
    assert list(tmp_path.iterdir()) == []


def test_pyplot_and_its_global_state_are_not_touched():
    code = "import sys, archijax.audio.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
