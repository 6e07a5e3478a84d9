import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import UNET

import archijax as aj
from archijax import convert


@pytest.fixture(scope="module")
def converted():
    net = aj.UNetV0(**vars(UNET), embedding_features=6)
    params = net.init(jax.random.key(0), jnp.zeros((1, 8, 2)), jnp.zeros(1), embedding=jnp.zeros((1, 2, 6)))["params"]
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
    with pytest.raises(aj.InputError, match=rf"{name} of shape \(8, 3, 1\) becomes \(1, 3, 8\)"):
        convert.from_torch(table, {**state, name: np.zeros((8, 3, 1), np.float32)})


def test_modules_of_ones_own_have_no_names():
    class Gain(nn.Module):
        @nn.compact
        def __call__(self, x, context):
            return x * self.param("gain", nn.initializers.ones, (x.shape[-1],))

    net = aj.UNet(blocks=[aj.Block(4, 1, items=[Gain()])])
    params = net.init(jax.random.key(0), jnp.zeros((1, 4, 2)))["params"]
    with pytest.raises(aj.InputError, match="Gain is not part of the PyTorch originals"):
        convert.entries(net, params)
