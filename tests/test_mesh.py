"""The training step on a mesh of devices equals the one on a single device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL, TEXT_MODEL, drawn, text_batch
from test_train_step import close, equals_one_device

from archijax.errors import InputError
from archijax.training.mesh import MeshParallel
from archijax.training.optimizer import EmaConfig, OptimizerConfig, adamw, global_norm
from archijax.training.pmap import SMALL, Pmap
from archijax.training.state import TrainState
from archijax.training.step import make_train_step


@pytest.mark.parametrize("fsdp", [1, 8])
def test_a_mesh_of_eight_devices_equals_one(fsdp):
    equals_one_device(MeshParallel(16, fsdp, small=0))


def test_parts_of_a_batch_on_data_x_fsdp_equal_the_whole_on_one_device():
    equals_one_device(MeshParallel(64, 4, small=0, grad_accumulation_steps=4), grad_accumulation_steps=4)


@pytest.mark.slow
def test_a_real_net_is_really_split(unchecked):
    model, batch = dataclasses.replace(TEXT_MODEL, unet=LATENT_MODEL.unet).build(), text_batch(8)
    config = OptimizerConfig(learning_rate=1e-3)
    state = jax.device_get(TrainState.create(model, drawn(model.init, batch), adamw(config)))

    def step(axis=None):
        return make_train_step(model, adamw(config), EmaConfig(start=0, every=1), axis=axis)

    results = {}
    for name, devices in {
        "pmap": Pmap(8),
        "data x fsdp": MeshParallel(8, 4, small=64),
    }.items():
        compiled, spread = devices.compile(step(devices.axis)), devices.put_state(state)
        for index in range(3):
            given = {**batch, "audio": batch["audio"] * (1 + index / 3)}
            spread, metrics = compiled(spread, devices.put_batch(jax.device_get(given)), jax.random.key(1))
        results[name] = devices.get((spread, metrics))
        if name == "data x fsdp":
            for part in (spread.params, spread.ema, spread.opt_state):
                kernel = max(jax.tree.leaves(part), key=lambda leaf: leaf.size)
                (shape,) = {shard.data.shape for shard in kernel.addressable_shards}
                assert np.prod(shape) * 4 == kernel.size
    close(results["data x fsdp"], results["pmap"])


@pytest.mark.canary
def test_the_norm_gathers_no_gradient():
    devices = MeshParallel(8, 8, small=0)
    for shape in ((3, 16, 2), (3, 2, 16), (16, 3), (SMALL,)):
        split = jax.ShapeDtypeStruct(shape, jnp.float32)
        split = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=devices.sharding(split))
        assert not split.sharding.is_fully_replicated
        assert "all-gather" not in jax.jit(global_norm).lower({"leaf": split}).compile().as_text()


def test_numbers_that_do_not_divide_are_said():
    with pytest.raises(InputError, match="fsdp is 3: it must divide the 8 devices"):
        MeshParallel(8, 3)
    with pytest.raises(InputError, match="multiple of the 8 devices, not 12: use 8"):
        MeshParallel(12)
