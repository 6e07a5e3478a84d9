import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import UNET, drawn
from safetensors.numpy import save_file

import archijax as aj
from archijax import convert
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.bottlenecks import BitcodesBottleneck, TanhBottleneck, VariationalBottleneck
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import ME1d, MelE1d
from archijax.codecs.quantizers import VectorQuantizer
from archijax.convert.table import Entry
from archijax.convert.tensors import Tensors


@pytest.fixture(scope="module")
def converted():
    net = aj.UNetV0(**vars(UNET), embedding_features=6)
    params = drawn(lambda key: net.init(key, jnp.zeros((1, 8, 2)), jnp.zeros(1), embedding=jnp.zeros((1, 2, 6))))[
        "params"
    ]
    table = convert.entries(net, params)
    return table, params, convert.to_torch(table, params)


def test_every_parameter_has_a_name_and_comes_back(converted):
    table, params, state = converted
    assert len({entry.path for entry in table}) == len(table) == len(jax.tree.leaves(params))
    back = convert.from_torch(table, state)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all(array.flags["C_CONTIGUOUS"] for array in state.values())


def test_weights_that_do_not_fit_are_named(converted):
    table, _, state = converted
    name = "blocks.2.net.block.blocks.0.block.weight"
    with pytest.raises(aj.InputError, match=f"missing {name}"):
        convert.from_torch(table, {key: value for key, value in state.items() if key != name})
    with pytest.raises(aj.InputError, match="not part of this net stranger"):
        convert.from_torch(table, {**state, "stranger": np.zeros(1)})
    with pytest.raises(
        aj.InputError, match=rf"{name} is float32 of shape \[8, 3, 1\], but the net needs floats of shape \[8, 2, 1\]"
    ):
        convert.from_torch(table, {**state, name: np.zeros((8, 3, 1), np.float32)})
    for wrong in (state[name].reshape(-1), np.float32(1.0), state[name].astype(np.int64)):
        with pytest.raises(aj.InputError, match=rf"{name} is .*, but the net needs floats of shape \[8, 2, 1\]"):
            convert.from_torch(table, {**state, name: wrong})
    with pytest.raises(aj.InputError, match=f"{name} has values that are not finite"):
        convert.from_torch(table, {**state, name: state[name] * np.nan})


def test_modules_of_ones_own_have_no_names():
    class Gain(nn.Module):
        @nn.compact
        def __call__(self, x, context):
            return x * self.param("gain", nn.initializers.ones, (x.shape[-1],))

    net = aj.UNet(blocks=[aj.Block(4, 1, items=[Gain()])])
    params = net.init(jax.random.key(0), jnp.zeros((1, 4, 2)))["params"]
    with pytest.raises(aj.InputError, match="Gain is not part of the PyTorch originals"):
        convert.entries(net, params)


LEVELS = dict(channels=8, multipliers=(1, 2), factors=(1,), num_blocks=(1,), resnet_groups=4)
SOUND = jnp.zeros((1, 48, 1))
ENCODERS = {
    "autoencoder": (
        AutoEncoder1d(
            **LEVELS,
            in_channels=1,
            bottleneck_channels=4,
            bottleneck=[VariationalBottleneck(), TanhBottleneck(), BitcodesBottleneck(4, 3)],
        ),
        (SOUND,),
    ),
    "magnitude autoencoder": (MAE1d(**LEVELS, in_channels=1, stft=STFT(15, 4, 10)), (jnp.ones((1, 12, 8, 1)),)),
    "magnitudes": (ME1d(**LEVELS, stft=STFT(15, 4, 10)), (SOUND,)),
    "mel": (MelE1d(**LEVELS, mel=MelSpectrogram(16, 4, sample_rate=8000, n_mel_channels=3)), (SOUND,)),
    "discriminator": (Discriminator1d(ME1d(**LEVELS, stft=STFT(15, 4))), (SOUND, SOUND)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_convert_there_and_back(name):
    net, inputs = ENCODERS[name]
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *inputs))["params"]
    draw = np.random.default_rng(0).standard_normal
    params = jax.tree.map(lambda leaf: draw(leaf.shape, np.float32), shapes)
    table = convert.entries(net, shapes)
    state = convert.to_torch(table, params)
    back = convert.from_torch(table, state)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    again = convert.to_torch(table, back)
    assert again.keys() == state.keys()
    assert any(name.endswith("window") for name in state) == (name != "autoencoder")


def test_a_window_of_other_settings_is_named():
    net, inputs = ENCODERS["magnitudes"]
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *inputs))["params"]
    table = convert.entries(net, shapes)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = convert.to_torch(table, zeros)
    np.testing.assert_allclose(state["stft.window"][5], 1)
    for window in (np.ones(10, np.float32), state["stft.window"][:8]):
        with pytest.raises(aj.InputError, match=r"stft.window is (not the array|.* floats of shape \[10\])"):
            convert.from_torch(table, {**state, "stft.window": window})


def test_a_bottleneck_of_ones_own_has_no_names():
    net = AutoEncoder1d(**LEVELS, in_channels=1, bottleneck=VectorQuantizer(16, num_codes=4))
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), SOUND))["params"]
    with pytest.raises(aj.InputError, match="VectorQuantizer is not part of the PyTorch originals"):
        convert.entries(net, shapes)


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize(("layout", "shape"), [("kernel", (50, 40, 150)), ("transposed", (3, 150, 400))])
def test_arrays_of_several_blocks_of_rows_come_back(layout, shape, weight_norm):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    entry = Entry(("kernel",), ("weight",), layout, shape=shape, weight_norm=weight_norm)
    tensors = entry.to_torch(array)
    assert tensors[-1].shape == entry.torch_shape
    back = entry.to_flax(*tensors)
    np.testing.assert_array_equal(back, array)
    assert back.flags.c_contiguous
    assert not np.shares_memory(back, tensors[-1])


def test_a_file_that_shrinks_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones(8, np.float32), "b": np.ones(2_000, np.float32)}, path)
    tensors = Tensors([path])
    np.testing.assert_array_equal(tensors["a"], 1)
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(aj.InputError, match="ends in the middle of b"):
        tensors["b"]
