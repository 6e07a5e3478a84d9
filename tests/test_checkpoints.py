import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from archijax.errors import InputError
from archijax.training.checkpoints import Checkpoints, restore_weights, steps

# After an error in one array, Orbax's other reads report to a closed event loop. Programs hide these warnings.
after_damage = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    ema: dict
    opt_state: tuple
    frozen: dict
    state: dict


def make_state(value, width=512):
    # Noise is not compressed, so a flipped bit in the file is a flipped bit in the array.
    noise = np.random.default_rng(value).standard_normal((8, width), np.float32)
    params = {"dense": {"kernel": noise, "bias": np.arange(width) % 7 * 0.5}}
    params["dense"]["half"] = jnp.full((3,), value, jnp.bfloat16)
    return State(
        step=np.int32(value),
        params=params,
        ema=jax.tree.map(lambda leaf: leaf * 2, params),
        opt_state=optax.adam(1e-3).init(params),
        frozen={},
        state={"codebook": np.arange(6)},
    )


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of two checkpoints. The first of three is no longer there."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(step), {"step": step, "data": {"position": step * 10}})
    checkpoints.close()
    return folder


@pytest.fixture
def saved(written, tmp_path):
    said = []
    shutil.copytree(written, tmp_path / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, say=said.append)
    yield checkpoints, said
    checkpoints.close()


def data_file(folder):
    return max((folder / "d").iterdir(), key=lambda path: path.stat().st_size)


def test_restores_the_newest_and_keeps_the_last_k(saved):
    checkpoints, said = saved
    assert steps(checkpoints.folder) == [2, 3]
    state, record = checkpoints.restore(make_state(0))
    assert_same(state, make_state(3))
    assert record["step"] == 3
    assert record["data"] == {"position": 30}
    assert said == []


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new")
    assert checkpoints.restore(make_state(0)) is None
    checkpoints.close()


def test_saved_arrays_may_be_overwritten_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = make_state(5)
    checkpoints.save(5, state, {})
    state.params["dense"]["kernel"][:] = -1
    checkpoints.wait()
    assert_same(checkpoints.restore(make_state(0))[0], make_state(5))
    checkpoints.close()


def test_restores_onto_a_sharding(saved):
    checkpoints, _ = saved
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    target = make_state(0)
    target.params["dense"]["kernel"] = jax.ShapeDtypeStruct((8, 512), jnp.float32, sharding=sharding)
    state, _ = checkpoints.restore(target)
    kernel = state.params["dense"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (1, 512)
    np.testing.assert_array_equal(kernel, make_state(3).params["dense"]["kernel"])


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def remove(path):
    path.unlink()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


@after_damage
@pytest.mark.parametrize("damage", [truncate, remove, flip])
def test_a_damaged_checkpoint_is_passed_over(saved, damage):
    checkpoints, said = saved
    damage(data_file(checkpoints.folder / "3" / "params"))
    state, _ = checkpoints.restore(make_state(0))
    assert_same(state, make_state(2))
    assert len(said) == 1
    assert "is damaged" in said[0]
    assert (checkpoints.folder / "damaged_3").is_dir()
    # The same step can be written again.
    checkpoints.save(3, make_state(3), {"step": 3})
    checkpoints.wait()
    assert_same(checkpoints.restore(make_state(0))[0], make_state(3))


def test_an_unfinished_save_is_ignored_and_removed(saved):
    checkpoints, _ = saved
    unfinished = checkpoints.folder / "4.orbax-checkpoint-tmp"
    unfinished.mkdir()
    again = Checkpoints(checkpoints.folder, keep=2)
    assert again.restore(make_state(0))[1]["step"] == 3
    again.close()
    assert not unfinished.exists()


def test_another_models_checkpoint_is_refused_by_name(saved):
    checkpoints, _ = saved
    with pytest.raises(InputError, match=r"ema/dense/bias is \(512,\) in it, \(256,\) here; .* and \d+ more"):
        checkpoints.restore(make_state(0, width=256))
    target = make_state(0)
    target.params["extra"] = np.zeros(3)
    with pytest.raises(InputError, match="params/extra is not in it"):
        checkpoints.restore(target)
    del target.params["extra"], target.ema["dense"]
    with pytest.raises(InputError, match="ema/dense/bias is only in it"):
        checkpoints.restore(target)


def test_weights_are_read_without_the_optimizer(saved):
    checkpoints, _ = saved
    for file in (checkpoints.folder / "3" / "opt_state").rglob("*"):
        if file.is_file():
            file.unlink()
    record, trees = restore_weights(checkpoints.folder.parent, parts=("ema", "frozen", "state"))
    assert record["step"] == 3
    assert_same(trees["ema"], make_state(3).ema)
    assert trees["frozen"] == {}
    np.testing.assert_array_equal(trees["state"]["codebook"], np.arange(6))
    assert "params" not in trees
    record, trees = restore_weights(checkpoints.folder, step=2)
    assert_same(trees["params"], make_state(2).params)


@after_damage
def test_a_folder_without_checkpoints_is_not_a_model_folder(saved, tmp_path):
    with pytest.raises(InputError, match="is not a model folder"):
        restore_weights(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no checkpoint of step 7: it has 2, 3"):
        restore_weights(tmp_path, step=7)
    truncate(data_file(tmp_path / "checkpoints" / "3" / "ema"))
    with pytest.raises(InputError, match="cannot be read"):
        restore_weights(tmp_path)


def test_some_on_the_way_and_the_best_stay(tmp_path):
    def keep(scores):
        checkpoints = Checkpoints(tmp_path, keep=2, keep_every=4, keep_best=1)
        for step, score in scores.items():
            checkpoints.save(step, {"params": {"w": np.ones(3)}}, {}, score)
        checkpoints.close()
        return steps(tmp_path)

    assert keep({1: 5.0, 2: 3.0, 3: 4.0, 4: 4.5, 5: None, 6: float("nan")}) == [2, 4, 5, 6]
    # The scores are read from the files.
    assert keep({7: 3.5, 8: 6.0, 9: 2.5, 10: 6.0}) == [4, 8, 9, 10]
