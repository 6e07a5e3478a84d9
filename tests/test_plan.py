"""The output of a dry run, which uses only shapes."""

import dataclasses

import jax
import jax.numpy as jnp
from nets import TEXT_MODEL
from test_train import command, forget_the_toy, setting  # noqa: F401

from archijax.configs import TextConfig
from train.__main__ import main
from train.config import TrainConfig
from train.dataset import DataConfig
from train.plan import batch_shapes, state_shapes
from train.setup import training_step


def test_a_dry_run_says_what_a_training_needs_and_writes_nothing(setting, tmp_path, capsys):  # noqa: F811
    arguments = command(setting, tmp_path / "out", "--dry-run", "--batch-size", "16", "--grad-accumulation-steps", "2")
    assert main([*arguments, "--parallel", "mesh", "--fsdp", "4", "--model.width", "4096"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:-2])
    assert said["parameters"] == "8,192 trained, 0 frozen"
    # Four copies of the parameters: themselves, average, two moments.
    assert said["state"].startswith("0.125 MiB")
    assert said["devices"] == "8 cpu, mesh of data 2 x fsdp 4"
    assert said["batch"] == "16 clips of 0.025 s, 1 at a time on each device"
    # The forward and backward passes of two products [16 * 200, 1] x [1, 4096].
    assert 3 * 2 * 16 * 200 * 8192 < float(said["operations"].split()[0]) < 2e9
    # Each device has a quarter of the state.
    assert 0.125 / 4 <= float(said["memory"].split("device: ")[1].split()[0]) < 0.125 / 3
    assert not (tmp_path / "out").exists()


def test_bfloat16_stays_inside_the_net_and_no_weights_are_read():
    text = TextConfig(tokenizer="t5-small", max_length=6)
    data = DataConfig(sample_rate=8000, channels=2, length=64)
    config = TrainConfig(dataclasses.replace(TEXT_MODEL, dtype="bfloat16", text=text, remat=True), data, batch_size=4)
    model = config.model.build()
    state, batch = state_shapes(config, model), batch_shapes(config)
    # Raffel et al. 2020: 60M parameters. The encoder with the embedding has more than half of them.
    assert sum(leaf.size for leaf in jax.tree.leaves(state.frozen)) == 35_330_816
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = training_step(config, model, grad_accumulation_steps=2)
    program, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(state, batch, key)
    kinds = [jax.tree.map(lambda leaf: leaf.dtype, tree) for tree in (state, after)]
    assert kinds[0] == kinds[1]
    assert {leaf.dtype for leaf in jax.tree.leaves((after.params, after.ema, metrics))} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(after.opt_state)} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert "bfloat16" in str(program)
