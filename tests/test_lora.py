"""Adapters: their effect, and training, saving, resuming and sampling with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from nets import killed_run, variables_of
from test_initial import SMALL

import archijax as aj
from archijax.pretrained import from_pretrained, save_pretrained
from archijax.training import EmaConfig, MeshParallel, OptimizerConfig, Pmap, TrainState, adamw, make_train_step
from archijax.training.checkpoints import restore_weights
from archijax.training.lora import Lora, added, draw
from sample.__main__ import main as sample
from train.__main__ import main as train
from train.config import TrainConfig
from train.dataset import DataConfig

PARAMS = {
    "net": {
        "conv": {"kernel": np.ones((3, 8, 16), np.float32), "bias": np.zeros(16, np.float32)},
        "q": {"kernel": np.eye(8, dtype=np.float32)},
    }
}

TONES = dataclasses.replace(SMALL, text=None, unet=dataclasses.replace(SMALL.unet, cross_attentions=()))


def test_adapters_of_what_is_named():
    adapters = draw(jax.random.key(0), PARAMS, 2)
    shapes = jax.tree.map(jnp.shape, adapters)
    assert shapes == {
        "net": {"conv": {"kernel": {"a": (24, 2), "b": (2, 16)}}, "q": {"kernel": {"a": (8, 2), "b": (2, 8)}}}
    }
    jax.tree.map(np.testing.assert_array_equal, added(PARAMS, adapters, 1.0), PARAMS)
    assert list(draw(jax.random.key(0), PARAMS, 2, ("*/q/*",))["net"]) == ["q"]
    # A pair of rank 5 is larger than an 8 by 8 matrix.
    assert list(draw(jax.random.key(0), PARAMS, 5)["net"]) == ["conv"]
    for rank, targets, message in [(2, ("*/k/*",), "has a name like"), (100, ("*",), "larger than a pair of rank 100")]:
        with pytest.raises(aj.InputError, match=message):
            draw(jax.random.key(0), PARAMS, rank, targets)


def test_the_sum_is_of_all_with_their_scales():
    rng = np.random.default_rng(0)
    pair = {"a": np.float32(rng.standard_normal((24, 2))), "b": np.float32(rng.standard_normal((2, 16)))}
    twice = added(added(PARAMS, {"net": {"conv": {"kernel": pair}}}, 0.5), {"net": {"conv": {"kernel": pair}}}, 1.5)
    wanted = 1 + 2 * (pair["a"] @ pair["b"]).reshape(3, 8, 16)
    np.testing.assert_allclose(twice["net"]["conv"]["kernel"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(twice["net"]["q"]["kernel"], np.eye(8))
    for name in ("conv", "other"):
        with pytest.raises(aj.InputError, match=f"adapters are of another model: net/{name}/kernel"):
            added(PARAMS, {"net": {name: {"kernel": {"a": np.zeros((2, 1)), "b": np.zeros((1, 16))}}}}, 1.0)


def test_models_with_several_losses_have_none():
    class Two:
        losses = ()

        def init(self, key, batch): ...

        def loss(self, variables, keys, batch): ...

    with pytest.raises(aj.InputError, match="several"):
        Lora(Two(), 2)


def test_one_device_equals_eight_and_the_base_stays():
    model = Lora(TONES.build(), 2, alpha=4.0)
    batch = {"audio": np.float32(0.3 * np.random.default_rng(1).standard_normal((8, 64, 1)))}
    inner = variables_of(TONES, 0)
    variables = model.around(jax.random.key(0), inner)
    # Adapters of zeros do not change the model.
    jax.tree.map(np.testing.assert_array_equal, model.plain(variables)["params"], inner["params"])
    optimizer = adamw(OptimizerConfig(learning_rate=1e-2))

    def trained(devices):
        step = devices.compile(make_train_step(model, optimizer, EmaConfig(start=0, every=1), axis=devices.axis))
        state = devices.put_state(TrainState.create(model, jax.tree.map(np.asarray, variables), optimizer))
        for _ in range(2):
            state, metrics = step(state, devices.put_batch(batch), jax.random.key(1))
        return devices.get(state), devices.get(metrics)

    one, alone = trained(Pmap(8, devices=jax.devices()[:1]))
    for other, metrics in (trained(Pmap(8)), trained(MeshParallel(8, 2))):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4), one.params, other.params)
        assert metrics["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    jax.tree.map(np.testing.assert_array_equal, one.frozen["base"], inner["params"])
    # Optimizer and average do not contain the base model.
    count = sum(leaf.size for leaf in jax.tree.leaves(one.params))
    assert sum(leaf.size for leaf in jax.tree.leaves(one.ema)) == count
    assert sum(leaf.size for leaf in jax.tree.leaves(one.opt_state)) == 2 * count + 2
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(one.params))


CONFIG = """
import archijax as aj
from test_initial import SMALL
from train.config import EmaConfig, OptimizerConfig, TrainConfig
from train.dataset import DataConfig

config = TrainConfig(
    model=SMALL,
    data=DataConfig(sample_rate=8000, channels=1, length=64, workers=1),
    optimizer=OptimizerConfig(learning_rate=1e-2), ema=EmaConfig(start=0, every=1),
    batch_size=8, steps=4, log_every=1, checkpoint_every=2, sample_prompts=("",), sample_steps=1,
)
"""


@pytest.mark.slow
def test_adapters_are_trained_resumed_and_used(tmp_path, capsys, unchecked):
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "a.wav", 0.3 * np.sin(np.arange(900) * 0.1), 8000)
    base = variables_of(SMALL, 0)
    save_pretrained(tmp_path / "base", SMALL, base)

    def run(out, *more):
        given = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / out), "--init-from", str(tmp_path / "base")]
        return train([str(tmp_path / "config.py"), *given, "--lora", "2", *more])

    assert run("whole") == 0
    killed_run(tmp_path / "whole", tmp_path / "parts", 2)
    assert run("parts", "--sample-prompts") == 0
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "parts" / "metrics.jsonl").read_bytes()
    parts = ("step", "params", "ema", "opt_state", "frozen")
    (_, ours), (_, whole) = (restore_weights(tmp_path / name, parts=parts) for name in ("parts", "whole"))
    assert int(whole["step"]) == 4
    jax.tree.map(np.testing.assert_array_equal, ours, whole)
    # Checkpoints contain only adapters.
    assert ours["frozen"] == {}
    assert list(ours["params"]) == ["lora"]

    once = from_pretrained(tmp_path / "whole").variables["params"]
    wanted = added(base["params"], whole["ema"]["lora"], 1.0)
    jax.tree.map(np.testing.assert_array_equal, once, wanted)
    both = from_pretrained(tmp_path / "base", lora={tmp_path / "whole": 0.5, tmp_path / "parts": 0.5})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), both.variables["params"], wanted)

    model = ["--model", str(tmp_path / "base"), "--lora", f"{tmp_path / 'whole'}:0.5"]
    assert sample(["save", *model, "--out", str(tmp_path / "merged")]) == 0
    assert "| steps of the adapters |" in (tmp_path / "merged" / "README.md").read_text()
    half = added(base["params"], whole["ema"]["lora"], 0.5)
    jax.tree.map(np.testing.assert_array_equal, from_pretrained(tmp_path / "merged").variables["params"], half)
    verb = ["generate", "--prompt", "x", "--num-steps", "1", "--out", str(tmp_path / "sounds")]
    assert sample([*verb, *model]) == 0
    capsys.readouterr()
    assert sample([*verb, "--model", str(tmp_path / "base"), "--lora", str(tmp_path / "base")]) == 2
    assert "has no adapters: use the folder of a run with --lora" in capsys.readouterr().err
    # A continued run checks that the base model has not changed.
    changed = jax.tree.map(lambda leaf: leaf + 1, base)
    (tmp_path / "base").rename(tmp_path / "moved")
    save_pretrained(tmp_path / "base", SMALL, changed)
    assert run("parts", "--steps", "6") == 2
    assert "base has changed since this run began" in capsys.readouterr().err


def test_settings_that_make_no_sense():
    data = DataConfig(sample_rate=8000, channels=1, length=64)
    for settings, message in [
        ({"lora": 2}, "use --init-from MODEL"),
        ({"lora": -1, "init_from": "x"}, "lora must be 0 or more"),
        ({"lora": 2, "init_from": "x", "trainable": ("net",)}, "adapters are chosen by lora_targets"),
    ]:
        with pytest.raises(aj.InputError, match=message):
            TrainConfig(model=SMALL, data=data, **settings)
