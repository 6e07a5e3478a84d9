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
def test_audio_that_cannot_be_drawn(tmp_path, audio, rate, message):
    with pytest.raises(InputError, match=message):
        plots.spectrogram(tmp_path / "picture.png", audio, rate)


def test_pyplot_and_its_global_state_are_not_touched():
    code = "import sys, archijax.audio.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
