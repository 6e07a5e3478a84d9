import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL

import archijax as aj


def test_the_numbers_are_those_of_init():
    net = aj.UNetV0(**vars(LATENT_MODEL.unet), embedding_features=6)
    x, t, embedding = jnp.ones((1, 8, 2)), jnp.ones(1), jnp.ones((1, 2, 6))
    init = lambda key, x, t, e: net.init(key, x, t, embedding=e)  # noqa: E731
    plain = jax.jit(init)(jax.random.key(3), x, t, embedding)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (x, t, embedding))
    quick = aj.nn.initialize(init, jax.random.key(3), *abstract)
    assert jax.tree.structure(quick) == jax.tree.structure(plain)
    for ours, theirs in zip(jax.tree.leaves(quick), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_values_that_the_result_needs_must_be_given():
    with pytest.raises(TypeError, match="given as a shape only"):
        aj.nn.initialize(lambda key, x: {"mean": x.mean()}, jax.random.key(0), jax.ShapeDtypeStruct((3,), jnp.float32))


def test_the_forward_pass_is_not_run():
    calls = []

    def init(key, x):
        jax.debug.callback(lambda _: calls.append(1), x.sum())
        return jax.random.normal(key, x.shape)

    aj.nn.initialize(init, jax.random.key(0), jnp.ones(3))
    jax.effects_barrier()
    assert calls == []
