"""Fine-tuning Stable Audio from a folder in the hub's layout: its latents once, then training, then sound."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from nets import STABLE_AUDIO, write_t5
from test_train import ROOT, lines

import archijax as aj
from archijax.audio import files
from archijax.convert import diffusers
from archijax.training.checkpoints import restore_weights
from train import encode
from train.__main__ import main

CONFIG = str(ROOT / "configs" / "stable_audio.py")
# Of the folder's model; the rest is as in the file.
SIZES = {
    "num-layers": 1, "num-heads": 4, "embedding-width": 64,
}  # fmt: skip


def overrides(hub):
    sizes = {f"model.transformer.{name}": value for name, value in SIZES.items()}
    sizes |= {
        "model.autoencoder.encoder-channels": 8, "model.autoencoder.decoder-channels": 4,
        "model.autoencoder.latent-channels": 4, "model.autoencoder.length": 256,
        "model.conditioning-features": 64, "model.text.tokenizer": hub, "model.text.max-length": 16,
        "model.dtype": "float32", "batch-size": 8, "steps": 4, "log-every": 1, "sample-steps": 2,
        "sample-prompts": "a", "data.workers": 1, "optimizer.warmup-steps": 1, "optimizer.learning-rate": 1e-3,
    }  # fmt: skip
    for part in ("model", "model.autoencoder", "data"):
        sizes[f"{part}.sample-rate"] = 8000
    sizes |= {"model.length": 256, "data.length": 256}
    flat = [str(word) for name, value in sizes.items() for word in (f"--{name}", value)]
    return [*flat, "--model.autoencoder.multipliers", "1", "2", "--model.autoencoder.strides", "2", "4"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder in the hub's layout, and sounds."""
    folder = tmp_path_factory.mktemp("fine_tune")
    write_t5(folder / "t5", 0)
    config = dataclasses.replace(
        STABLE_AUDIO,
        transformer=dataclasses.replace(STABLE_AUDIO.transformer, num_heads=4, time_features=256),
        conditioning_features=64,
        text=aj.configs.TextConfig(tokenizer=str(folder / "t5"), max_length=16),
    )
    draw = np.random.default_rng(0).standard_normal
    variables = jax.tree.map(lambda leaf: (0.1 * draw(leaf.shape)).astype(np.float32), diffusers.shapes(config))
    variables["frozen"] |= config.load_frozen()
    (folder / "hub").mkdir()
    diffusers.write(folder / "hub", config, variables)
    (folder / "audio").mkdir()
    for number in range(3):
        sound = 0.3 * draw((400 + 300 * number, 2)).clip(-1, 1).astype(np.float32)
        files.write(folder / "audio" / f"{number}.wav", sound, 8000, {"title": "ab"})
    return folder


@pytest.mark.slow
def test_a_folder_of_the_hubs_layout_is_tuned_on_latents_encoded_once(hub, capsys):
    model, out = str(hub / "hub"), hub / "run"
    more = [*overrides(model), "--init-from", model]
    assert encode.main([CONFIG, "--data", str(hub / "audio"), "--out", str(hub / "latents"), *more]) == 0
    arguments = [CONFIG, "--data", str(hub / "latents"), "--out", str(out), *more]
    assert main(arguments) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    # Every array of the folder is there, and nothing is new.
    assert f"starting from {model}: " in said
    assert "new:" not in said
    assert "left over" not in said
    losses = [json.loads(line)["loss"] for line in lines(out)]
    assert len(losses) == 4
    assert np.isfinite(losses).all()

    before = flatten_dict(aj.from_pretrained(hub / "hub").variables, sep="/")
    _, trees = restore_weights(out)
    after = flatten_dict(trees, sep="/")
    for name, array in before.items():
        if name.startswith("frozen/"):
            np.testing.assert_array_equal(after[name], array)
    moved = [name for name in after if name.startswith("params/") and np.any(after[name] != before[name])]
    trained = [name for name in before if name.startswith("params/") and "frequencies" not in name]
    assert set(trained) <= set(moved)
    # It is the folder's model, tuned a little.
    assert max(np.abs(after[name] - before[name]).max() for name in moved) < 0.05
    sounds, rate = aj.from_pretrained(out).generate(["ab"], seconds=0.02, num_steps=2)
    assert (sounds.shape, rate) == ((1, 160, 2), 8000)
    assert (out / "samples" / "step_0000004_0.wav").exists()


@pytest.mark.parametrize("count", [1, 4, 8])
@pytest.mark.slow
def test_a_dry_run_says_what_devices_need(hub, count, monkeypatch, capsys):
    devices = jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda *_: devices)
    arguments = [CONFIG, "--data", "none", "--out", "none", "--dry-run", *overrides(str(hub / "hub"))]
    assert main([*arguments, "--fsdp", str(count)]) == 0
    said = capsys.readouterr().out
    assert f"{count} cpu, mesh of data 1 x fsdp {count}" in said
    assert "for state and batch" in said
    if count > 1:
        name = "params/net/net/layers_0/feed_forward/expand/kernel [256, 2048]"
        assert f"{name}: [256, {2048 // count}] on each device" in said
