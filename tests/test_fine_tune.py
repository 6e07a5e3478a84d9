"""Fine-tuning Stable Audio from a folder in the hub's layout: latents, training, sampling."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from nets import STABLE_AUDIO, killed_run, write_t5
from test_train import ROOT, lines

import archijax as aj
from archijax.audio import files
from archijax.convert import diffusers
from archijax.training.checkpoints import restore_weights
from archijax.training.lora import draw
from train import encode
from train.__main__ import main

CONFIG = str(ROOT / "configs" / "stable_audio.py")
# Sizes of the folder's model. The config file has the other settings.
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


@pytest.fixture(scope="module")
def given(hub):
    """The arguments of a training on the folder's model, without --out. The latents of the sounds are encoded once."""
    model = str(hub / "hub")
    more = [*overrides(model), "--init-from", model]
    assert encode.main([CONFIG, "--data", str(hub / "audio"), "--out", str(hub / "latents"), *more]) == 0
    return [CONFIG, "--data", str(hub / "latents"), *more]


@pytest.mark.slow
def test_a_folder_of_the_hubs_layout_is_tuned_on_latents_encoded_once(hub, given, capsys, unchecked):
    model, out = str(hub / "hub"), hub / "run"
    assert main([*given, "--out", str(out)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    # The model has every array of the folder, and no other array.
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
    # The result is the folder's model with small changes.
    assert max(np.abs(after[name] - before[name]).max() for name in moved) < 0.05
    sounds, rate = aj.from_pretrained(out).generate(["ab"], seconds=0.02, num_steps=2)
    assert (sounds.shape, rate) == ((1, 160, 2), 8000)
    assert (out / "samples" / "step_0000004_0.wav").exists()


@pytest.mark.slow
def test_adapters_of_the_transformer_resume_bit_for_bit(hub, given, unchecked):
    def run(out, *more):
        # The state is sharded over the devices, which is necessary for the real model.
        return main([*given, "--out", str(hub / out), "--fsdp", "8", "--lora", "2", *more])

    assert run("whole", "--checkpoint-every", "2") == 0
    killed_run(hub / "whole", hub / "parts", 2)
    assert run("parts", "--sample-prompts") == 0
    assert (hub / "whole" / "metrics.jsonl").read_bytes() == (hub / "parts" / "metrics.jsonl").read_bytes()
    parts = ("step", "params", "ema", "opt_state", "frozen")
    (_, ours), (_, whole) = (restore_weights(hub / name, parts=parts) for name in ("parts", "whole"))
    assert int(whole["step"]) == 4
    jax.tree.map(np.testing.assert_array_equal, ours, whole)
    # Checkpoints contain only adapters. Every attention and feed-forward layer has adapters, and training has changed
    # them.
    assert whole["frozen"] == {}
    pairs = flatten_dict(whole["params"]["lora"]["net"]["net"]["layers_0"], sep="/")
    for name in ("attention/to_q", "attention/to_out", "cross_attention/to_k", "feed_forward/expand"):
        assert np.any(pairs[f"{name}/kernel/b"] != 0)
    tuned, base = (aj.from_pretrained(hub / name).variables["params"]["net"]["net"] for name in ("whole", "hub"))
    kernel = tuned["layers_0"]["attention"]["to_q"]["kernel"]
    assert 0 < np.abs(kernel - base["layers_0"]["attention"]["to_q"]["kernel"]).max() < 0.05


@pytest.mark.slow
def test_a_dry_run_says_what_devices_need(hub, capsys, unchecked):
    count, rank, model = 8, 2, str(hub / "hub")
    arguments = [CONFIG, "--data", "none", "--out", "none", "--dry-run", *overrides(model), "--fsdp", str(count)]
    assert main([*arguments, "--lora", str(rank), "--init-from", model]) == 0
    out = capsys.readouterr().out
    said = dict(line.split(maxsplit=1) for line in out.splitlines()[:6])
    assert said["devices"] == f"{count} cpu, mesh of data 1 x fsdp {count}"
    assert said["batch"] == f"latents of 8 clips of 0.032 s, {8 // count} at a time on each device"
    trees = aj.from_pretrained(model).variables
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(trees[name])) for name in ("params", "frozen")}
    trained, frozen = (int(part.split()[0].replace(",", "")) for part in said["parameters"].split(", "))
    assert frozen == sum(counts.values())
    assert trained == sum(leaf.size for leaf in jax.tree.leaves(draw(jax.random.key(0), trees["params"], rank)))
    # The trained part is stored four times (parameters, average, two moments), the frozen part once.
    size = 4 * (4 * trained + frozen) / 2**20
    assert float(said["state"].split()[0]) == pytest.approx(size, rel=0.01)
    whole, state = (float(said["memory"].split(word)[0].split()[-2]) for word in (" on each", " of state"))
    assert 0.99 * size / count < state < whole
    name = "frozen/base/net/net/layers_0/feed_forward/expand/kernel [256, 2048]"
    assert f"{name}: [256, {2048 // count}] on each device" in out
