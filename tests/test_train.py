"""The training program: its files, resuming, and its output."""

import dataclasses
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from archijax.configs import KINDS
from archijax.training.checkpoints import restore_weights, steps
from archijax.training.compiling import compiling
from archijax.training.pmap import SMALL
from train import loop
from train.__main__ import load_config, main
from train.logs import MetricsLog
from train.loop import train

ROOT = Path(__file__).parents[1]

CONFIG = '''
import dataclasses

import jax
import jax.numpy as jnp

from archijax.configs import KINDS
from archijax.configs.base import ModelConfig
from train.config import DataConfig, EmaConfig, OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class ToyConfig(ModelConfig):
    sample_rate: int = 8000
    channels: int = 1
    length: int = 200
    width: int = 4
    """Features inside."""
    broken_from: int = 1_000_000
    """Its loss is NaN from this step on."""

    def build(self):
        return Toy(self)


KINDS["toy"] = ToyConfig

class Toy:
    def __init__(self, config):
        self.config = config

    def init(self, key, batch):
        kernel = jax.random.normal(key, (batch["audio"].shape[-1], self.config.width))
        return {"params": {"kernel": kernel, "out": kernel.T}, "state": {"count": jnp.zeros((), jnp.int32)}}

    def loss(self, variables, keys, batch):
        audio, count = batch["audio"], variables["state"]["count"]
        noise = jax.vmap(lambda key: jax.random.normal(key, audio.shape[1:]))(keys)
        guess = jnp.tanh((audio + noise) @ variables["params"]["kernel"]) @ variables["params"]["out"]
        loss = jnp.mean((guess - noise) ** 2)
        loss = jnp.where(count >= self.config.broken_from, jnp.nan, loss)
        return loss, ({"noise": jnp.mean(noise)}, {"count": count + 1})

    def sample(self, variables, keys, *, shape, num_steps):
        noise = jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(keys)
        return 0.5 * jnp.tanh(noise @ variables["params"]["kernel"])[..., :1]


config = TrainConfig(
    model=ToyConfig(),
    data=DataConfig(sample_rate=8000, channels=1, length=200, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=5),
    ema=EmaConfig(start=3, every=2),
    batch_size=8,
    steps=12,
    log_every=3,
    checkpoint_every=5,
    sample_prompts=(),
)
'''


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A folder with a config, toy.py, and three sound files in audio/."""
    folder = tmp_path_factory.mktemp("setting")
    (folder / "toy.py").write_text(CONFIG)
    (folder / "audio").mkdir()
    for index in range(3):
        wave = 0.3 * np.sin(np.arange(4000 + 500 * index) * 0.05 * (index + 1))
        soundfile.write(folder / "audio" / f"{index}.wav", wave, 8000)
    return folder


@pytest.fixture(autouse=True)
def forget_the_toy(monkeypatch):
    monkeypatch.setitem(KINDS, "toy", None)


def command(setting, out, *overrides):
    return [str(setting / "toy.py"), "--data", str(setting / "audio"), "--out", str(out), *overrides]


def lines(out):
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def stop(setting, out, overrides, number, after):
    """Runs the program and sends a signal after `after` logged steps. Returns the exit status."""
    arguments = [sys.executable, "-m", "train", *command(setting, out, *overrides)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and len(lines(out)) < after and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit(setting, tmp_path, unchecked):
    overrides = ["--steps", "200", "--log-every", "1", "--checkpoint-every", "40"]
    assert main(command(setting, tmp_path / "whole", *overrides)) == 0

    out, chance = tmp_path / "stopped", random.Random(0)
    status, _ = stop(setting, out, overrides, signal.SIGKILL, chance.randint(45, 75))
    assert status == -signal.SIGKILL
    killed = len(lines(out))
    status, errors = stop(setting, out, overrides, signal.SIGTERM, killed + chance.randint(1, 40))
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    # The step at which the signal came is saved, even if no checkpoint was due.
    assert steps(out / "checkpoints")[-1] == len(lines(out)) < 200
    assert main(command(setting, out, *overrides)) == 0

    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert len(lines(out)) == 200
    parts = ("step", "skipped", "params", "ema", "opt_state", "state")
    (record, ours), (whole_record, whole) = (restore_weights(f, parts=parts) for f in (out, tmp_path / "whole"))
    assert record == whole_record
    jax.tree.map(np.testing.assert_array_equal, ours, whole)
    assert int(ours["step"]) == 200


def test_a_run_writes_its_folder_and_knows_when_it_is_finished(setting, tmp_path, capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr(loop, "compiling", lambda *given: compiled.append(given) or compiling(*given))
    arguments = command(setting, tmp_path, "--sample-prompts", "", "--sample-seconds", "0.1")
    assert main([*arguments, "--profile", "2"]) == 0
    assert len(compiled) == 1
    assert "compiling" in capsys.readouterr().err
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*")}
    assert names == {
        "config.json",
        "manifest.json",
        "metrics.jsonl",
        "speed.jsonl",
        "profile",
        "checkpoints",
        "samples",
    }
    assert steps(tmp_path / "checkpoints") == [5, 10, 12]
    for step in (5, 10, 12):
        sound, rate = soundfile.read(tmp_path / "samples" / f"step_{step:07d}_0.wav")
        assert (sound.shape, rate) == ((800,), 8000)
        assert (tmp_path / "samples" / f"step_{step:07d}_0.png").stat().st_size > 0
    metrics = [json.loads(line) for line in lines(tmp_path)]
    assert [line["step"] for line in metrics] == [3, 6, 9, 12]
    assert set(metrics[0]) == {"step", "loss", "grad_norm", "learning_rate", "noise", "skipped"}
    speed = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in speed] == [3, 6, 9, 12]
    assert all(line[f"seconds_{part}"] >= 0 for line in speed for part in ("data", "compute", "wait"))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    record, _ = restore_weights(tmp_path, parts=())
    assert record["config"]["optimizer"]["warmup_steps"] == 5

    assert main(arguments) == 0
    assert "is finished: 12 of 12 steps" in capsys.readouterr().err
    assert len(compiled) == 1
    assert main([*arguments, "--steps", "14", "--log-every", "1"]) == 0
    assert len(compiled) == 2
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [3, 6, 9, 12, 13, 14]

    assert main([*arguments, "--optimizer.learning-rate", "0.1", "--seed", "3"]) == 2
    message = capsys.readouterr().err
    assert "optimizer.learning_rate is 0.001 there and 0.1 here; seed is 0 there and 3 here" in message


OWN = """
import dataclasses

import jax.numpy as jnp

from archijax.configs.base import ModelConfig
from train.config import DataConfig, EmaConfig, TrainConfig


class Mean:
    def init(self, key, batch):
        return {"params": {"mean": jnp.zeros(batch["audio"].shape[-1])}}

    def loss(self, variables, keys, batch):
        return jnp.mean((batch["audio"] - variables["params"]["mean"]) ** 2), ({}, {})


@dataclasses.dataclass(frozen=True)
class MeanConfig(ModelConfig):
    sample_rate: int = 8000
    channels: int = 1
    length: int = 200

    def build(self):
        return Mean()


config = TrainConfig(
    model=MeanConfig(),
    data=DataConfig(sample_rate=8000, channels=1, length=200, workers=1),
    ema=EmaConfig(start=0, every=1),
    batch_size=8,
    log_every=2,
    checkpoint_every=2,
    validation=0.4,
    sample_prompts=(),
)
"""


def test_a_model_of_ones_own_needs_init_and_loss_alone(setting, tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    arguments = [str(tmp_path / "own.py"), "--data", str(setting / "audio"), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--steps", "2"]) == 0
    assert main([*arguments, "--steps", "4"]) == 0
    assert "continuing at step 2" in capsys.readouterr().err
    metrics = [json.loads(line) for line in lines(tmp_path / "run")]
    assert [line["step"] for line in metrics] == [2, 4]
    assert all(np.isfinite(line["validation_loss"]) for line in metrics)
    _, trees = restore_weights(tmp_path / "run")
    assert trees["params"]["mean"].shape == (1,)


def test_a_diverged_run_stops(setting, tmp_path, capsys):
    arguments = command(setting, tmp_path, "--model.broken-from", "6", "--max-skipped", "4", "--steps", "30")
    assert main(arguments) == 3
    message = capsys.readouterr().err.splitlines()[-1]
    assert "not finite for 4 steps in a row, up to step 10; first in that step: the loss itself" in message
    _, trees = restore_weights(tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trees))
    metrics = [json.loads(line) for line in lines(tmp_path)]
    assert [line["skipped"] for line in metrics] == [0, 0, 3]
    assert metrics[-1]["loss"] is None


@pytest.mark.slow
def test_a_run_moves_between_devices_and_modes(setting, tmp_path, unchecked):
    config = load_config(setting / "toy.py")
    # The model is wide enough for its parameters to be sharded. Short sounds are enough.
    model, data = (dataclasses.replace(part, length=40) for part in (config.model, config.data))
    model = dataclasses.replace(model, width=SMALL)
    config = dataclasses.replace(config, model=model, data=data, log_every=1, checkpoint_every=9, validation=0.4)

    def run(name, devices, **changes):
        given = dataclasses.replace(config, **changes)
        assert train(given, setting / "audio", tmp_path / name, devices=jax.devices()[:devices]) == 0

    run("moved", 8, steps=4)
    run("moved", 4, steps=8, parallel="mesh", fsdp=2)
    run("moved", 1, grad_accumulation_steps=2)
    run("whole", 1)
    parts = ("params", "ema", "opt_state")
    ours, whole = (restore_weights(tmp_path / name, parts=parts)[1] for name in ("moved", "whole"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, whole)
    logs = [[json.loads(line) for line in lines(tmp_path / name)] for name in ("moved", "whole")]
    assert [[line["step"] for line in log if "validation_loss" in line] for log in logs] == [[4, 8, 9, 12], [9, 12]]
    for one, two in zip(*logs, strict=True):
        two = {"validation_loss": one["validation_loss"], **two} if "validation_loss" in one else two
        assert one == pytest.approx(two, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--fsdp", "2"], "fsdp must be 1 unless parallel is mesh, not 2"),
        (["--parallel", "mesh", "--fsdp", "3"], "fsdp is 3: it must divide the 8 devices"),
        (["--process", "1"], "--coordinator, --processes and --process belong together"),
        (["--optimizer.lerning-rate", "3"], "did you mean --optimizer.learning-rate?"),
        (["--model.widht=3"], "did you mean --model.width?"),
        (["--batch-size", "many"], "--batch-size: invalid literal for int"),
        (["--batch-size", "0"], "batch_size must be 1 or more, not 0"),
        (["--batch-size", "9"], "multiple of the 8 devices, not 9"),
        (["--steps", "-5"], "steps must be 1 or more, not -5"),
        (["--data.channels", "2"], "data.channels and model.channels must be equal, not 2 and 1"),
        (["--sample-prompts", "piano"], "the model has no text conditioning"),
        (["--data", "/nowhere"], "/nowhere does not exist"),
        (["--out", str(Path(__file__) / "run")], "run: Not a directory"),
        (["stray"], 'Unexpected argument "stray"'),
    ],
)
def test_wrong_input_is_one_sentence(setting, tmp_path, capsys, overrides, message):
    assert main(command(setting, tmp_path / "run", *overrides)) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_wrong_config_files(setting, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("")
    for path, message in [
        (tmp_path / "none.py", "No such file"),
        (tmp_path / "empty.py", "must define config = TrainConfig(...)"),
        (setting / "audio", "is not a Python file"),
        ("--data", "first argument must be a config file"),
    ]:
        assert main([str(path)]) == 2
        assert message in capsys.readouterr().err
    assert main([str(setting / "toy.py"), "--data", "x"]) == 2
    assert "--out" in capsys.readouterr().err


def test_help_lists_the_settings_with_their_values(setting, capsys):
    assert main(["--help"]) == 0
    assert "CONFIG.py" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit:
        main([str(setting / "toy.py"), "--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    for words in ("--optimizer.learning-rate", "0.001", "--model.width", "Features inside.", "--data.length", "--out"):
        assert words in text


# The tests' cache of compiled programs is on the same disk.
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache")
def test_a_full_disk_is_one_sentence(setting, tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        # Short sounds, because a wide model takes long.
        sizes = ["--model.width", "30000", "--model.length", "8", "--data.length", "8"]
        assert main(command(setting, tmp_path, *sizes, "--checkpoint-every", "1", "--steps", "2")) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert f"could not be written: {os.strerror(errno.EFBIG)}" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert steps(tmp_path / "checkpoints") == []


def test_metrics_are_means_and_a_cut_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, every=2)
    for step, loss in enumerate([1.0, 3.0, float("nan"), 5.0, 7.0], start=1):
        log.add(step, {"loss": loss, "learning_rate": step / 8})
    log.close()
    first, second = '{"step": 2, "loss": 2.0, "learning_rate": 0.25}', '{"step": 4, "loss": 5.0, "learning_rate": 0.5}'
    assert path.read_text() == f"{first}\n{second}\n"
    window = log.window
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    log = MetricsLog(path, every=4, last=6, resumed=5, window=window)
    log.add(6, {"loss": 8.0, "learning_rate": 0.75})
    log.close()
    assert lines(tmp_path) == [first, second, '{"step": 6, "loss": 7.5, "learning_rate": 0.75}']
    MetricsLog(path, every=2, resumed=3).close()
    assert lines(tmp_path) == [first]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_means_over_some_items_are_divided_after_they_are_added(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, every=2)
    log.add(1, {"rare": 2.0, "rare:weight": 0.5, "never": 0.0, "never:weight": 0.0})
    log.add(2, {"rare": 1.0, "rare:weight": 0.25, "never": 0.0, "never:weight": 0.0})
    log.close()
    assert lines(tmp_path) == ['{"step": 2, "never": null, "rare": 4.0}']
