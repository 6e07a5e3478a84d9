"""A custom model, whose class is in the config file: training and sampling."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import archijax as aj
from archijax.cli import python_config
from archijax.configs import build
from archijax.pretrained import from_pretrained
from sample.__main__ import main as sample
from train.__main__ import main as train

ROOT = Path(__file__).parents[1]
CONFIG = """
import dataclasses

import jax
import jax.numpy as jnp

from archijax.configs import ModelConfig
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig


class Tone:
    def __init__(self, width):
        self.width = width

    def init(self, key, batch):
        return {"params": {"kernel": jax.random.normal(key, (batch["audio"].shape[-1], self.width))}}

    def loss(self, variables, keys, batch):
        noise = jax.vmap(lambda key: jax.random.normal(key, batch["audio"].shape[1:]))(keys)
        kernel = variables["params"]["kernel"]
        return jnp.mean((batch["audio"] + 0.1 * noise - jnp.tanh(noise @ kernel) @ kernel.T) ** 2), ({}, {})

    def sample(self, variables, keys, *, shape, num_steps):
        noise = jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(keys)
        return 0.1 * jnp.tanh(noise @ variables["params"]["kernel"])[..., :1]


@dataclasses.dataclass(frozen=True)
class ToneConfig(ModelConfig):
    sample_rate: int = 8000
    channels: int = 1
    length: int = 200
    width: int = 3

    def build(self):
        return Tone(self.width)


@dataclasses.dataclass(frozen=True)
class NoneConfig(ToneConfig):
    def build(self):
        return None


@dataclasses.dataclass(frozen=True)
class Bare:
    sample_rate: int = 8000


config = TrainConfig(
    model=ToneConfig(),
    data=DataConfig(sample_rate=8000, channels=1, length=200, workers=1),
    ema=EmaConfig(start=0, every=1),
    batch_size=8, steps=40, log_every=1, checkpoint_every=10, sample_prompts=(),
)
none = dataclasses.replace(config, model=NoneConfig())
"""


@pytest.fixture
def setting(tmp_path):
    """The arguments of a training, without --out."""
    (tmp_path / "own.py").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", 0.3 * np.sin(np.arange(4000) * 0.1), 8000)
    return [str(tmp_path / "own.py"), "--data", str(tmp_path / "data"), "--model.width", "5", "--out"]


def test_a_config_that_builds_no_model_is_one_sentence(setting, tmp_path, capsys):
    own, *rest = setting
    for place, message in {
        f"{own}:none": "NoneConfig.build() returned None, which is no model: a model has the methods init and loss",
    }.items():
        assert train([place, *rest, str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "bare.py").write_text(CONFIG + "bare = dataclasses.replace(config, model=Bare())")
    assert train([str(tmp_path / "bare.py"), *rest, str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "Bare lacks channels, length, text, autoencoder, conditioners, build, load_frozen" in message
    assert len(message.splitlines()) == 1


@pytest.mark.slow
def test_it_trains_is_killed_resumes_samples_and_is_saved(setting, tmp_path, capsys, unchecked):
    assert train([*setting, str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "train", *setting, str(out)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline, log = time.monotonic() + 300, out / "metrics.jsonl"
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and len(log.read_text().splitlines()) > 13:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert train([*setting, str(out)]) == 0
    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()

    own = setting[0]
    verb = ["generate", "--count", "2", "--num-steps", "1"]
    assert sample([*verb, "--model", str(out), "--out", str(tmp_path / "a"), "--config", own]) == 0
    assert sample(["save", "--model", str(out), "--out", str(tmp_path / "saved"), "--config", own]) == 0
    saved = ["--model", str(tmp_path / "saved"), "--config", f"{own}:config"]
    assert sample([*verb, *saved, "--out", str(tmp_path / "b")]) == 0
    sounds = [sorted((tmp_path / name).glob("*.wav")) for name in "ab"]
    assert len(sounds[0]) == 2
    for one, two in zip(*sounds, strict=True):
        np.testing.assert_array_equal(soundfile.read(one)[0], soundfile.read(two)[0])
    # The settings come from the run, not from the file.
    config = python_config(own).model
    assert from_pretrained(tmp_path / "saved", config=config).config.width == 5
    # No code is loaded from a model folder.
    capsys.readouterr()
    assert sample([*verb, "--model", str(tmp_path / "saved"), "--out", str(tmp_path / "c")]) == 2
    assert "the model's kind is 'ToneConfig'" in (error := capsys.readouterr().err)
    assert "--config FILE" in error
    with pytest.raises(aj.InputError, match="which is no model"):
        build(python_config(f"{own}:none").model)
