"""Trackers of metrics and sounds, with fake modules in place of the packages."""

import dataclasses
import sys
import types

import numpy as np
import pytest
from test_initial import DATA, SMALL

import archijax as aj
from archijax.audio import plots
from train.config import TrainConfig
from train.logs import MetricsLog
from train.trackers import trackers

CONFIG = TrainConfig(model=SMALL, data=DATA)


class Recorder:
    """Records every call."""

    def __init__(self, *given, **settings):
        self.calls = [("init", given, settings)]

    def __getattr__(self, name):
        return lambda *given, **settings: self.calls.append((name, given, settings))


@pytest.fixture
def packages(monkeypatch):
    """The recorders of the runs of TensorBoard and wandb, in the order of their start."""
    begun = []

    def begin(*given, **settings):
        begun.append(Recorder(*given, **settings))
        return begun[-1]

    media = {name: lambda *given, name=name, **settings: (name, *given) for name in ("Audio", "Image")}
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=begin))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=begin, **media))
    return begun


def test_metrics_and_sounds_go_to_each(packages, tmp_path):
    config = dataclasses.replace(CONFIG, tensorboard=True, wandb="sounds")
    both = trackers(config, tmp_path, 3)
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1, trackers=both)
    log.add(4, {"loss": 2.0, "rare": 0.0, "rare:weight": 0.0})
    log.close()
    sound = 0.1 * np.ones((300, 1), np.float32)
    plots.spectrogram(tmp_path / "a.png", sound, 8000, "a")
    for tracker in both:
        tracker.sound(4, "0 a flute", sound, 8000, tmp_path / "a.png")
        tracker.close()
    board, wandb = packages
    assert board.calls[0] == ("init", (str(tmp_path / "tensorboard"),), {"purge_step": 4})
    # Values without a mean are not shown.
    assert board.calls[1] == ("add_scalar", ("loss", 2.0, 4), {})
    assert [name for name, _, _ in board.calls[2:]] == ["add_audio", "add_image", "close"]
    assert board.calls[3][1][1].ndim == 3
    assert wandb.calls[0][2]["config"]["model"]["kind"] == "diffusion"
    assert wandb.calls[1] == ("log", ({"loss": 2.0},), {"step": 4})
    shown = wandb.calls[2][1][0]
    assert set(shown) == {"sound/0 a flute", "spectrogram/0 a flute"}
    assert shown["spectrogram/0 a flute"] == ("Image", str(tmp_path / "a.png"))
    assert wandb.calls[3][0] == "finish"
    # A continued run keeps its id.
    trackers(config, tmp_path, 4)
    assert packages[3].calls[0][2]["id"] == wandb.calls[0][2]["id"]


def test_none_unless_asked_for_and_one_sentence_where_it_is_not_installed(monkeypatch, tmp_path):
    assert trackers(CONFIG, tmp_path, 0) == ()
    for name, package in {"tensorboard": "tensorboardX", "wandb": "wandb"}.items():
        monkeypatch.setitem(sys.modules, package, None)
        config = dataclasses.replace(CONFIG, **{name: "x"})
        with pytest.raises(aj.InputError, match=rf"{package} is not installed: pip install 'archijax\[{name}\]'"):
            trackers(config, tmp_path, 0)
