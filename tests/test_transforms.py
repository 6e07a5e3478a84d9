import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj


def Echo(shapes: list) -> nn.Module:
    """A net that returns its input and records its shape."""

    class Net(nn.Module):
        def __call__(self, x, time=None, *, out_channels=None):
            shapes.append(x.shape)
            return x

    return Net()


@pytest.mark.parametrize("patch_size", [2, 64])
def test_patching_around_an_identity_is_the_identity(patch_size):
    shapes = []
    net = aj.Patching(Echo(shapes), patch_size=patch_size)
    x = jax.random.normal(jax.random.key(0), (2, 128, 3))
    np.testing.assert_array_equal(net.apply({}, x, jnp.zeros(2)), x)
    assert shapes == [(2, 128 // patch_size, 3 * patch_size)]
    with pytest.raises(aj.InputError, match="length 130 is not a multiple of"):
        aj.Patching(Echo([]), patch_size=4).apply({}, jnp.zeros((1, 130, 1)))


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (32, 8), (8, 8)])
def test_learned_transform_starts_as_the_identity(window, stride):
    net = aj.LearnedTransform(Echo([]), num_filters=window, window_length=window, stride=stride)
    x = jax.random.normal(jax.random.key(0), (2, 128, 2))
    variables = jax.jit(net.init)(jax.random.key(0), x, jnp.zeros(2))
    out = jax.jit(net.apply)(variables, x, jnp.zeros(2))
    inner = slice(window, -window)  # at the edges fewer windows overlap
    np.testing.assert_allclose(out[:, inner], x[:, inner], atol=1e-5)


def test_learned_transform_shortens_by_the_stride_and_keeps_the_length():
    shapes = []
    net = aj.LearnedTransform(Echo(shapes), num_filters=6, window_length=16, stride=8)
    x = jnp.zeros((2, 64, 3))
    variables = jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(2))
    assert jax.eval_shape(net.apply, variables, x, jnp.zeros(2)).shape == x.shape
    assert shapes[-1] == (2, 8, 18)
    assert net.length_multiple == 8


@pytest.mark.parametrize(
    ("settings", "length", "message"),
    [
        ((4, 12, 8), 64, "window_length 12 with stride 8"),
        ((4, 15, 5), 64, "length 64 is not a multiple of 5 .*: pad to 65"),
        ((4, 64, 4), 28, "length 28 is too short for a window of 64: more than 30"),
    ],
)
def test_settings_and_lengths_that_do_not_fit_are_named(settings, length, message):
    net = aj.LearnedTransform(Echo([]), *settings)
    with pytest.raises(aj.InputError, match=message):
        net.init(jax.random.key(0), jnp.zeros((1, length, 1)), jnp.zeros(1))


@pytest.mark.parametrize("polar", [False, True])
def test_stft_around_an_identity_is_the_identity(polar):
    shapes = []
    net = aj.STFTTransform(Echo(shapes), n_fft=64, hop_length=16, polar=polar)
    x = jax.random.normal(jax.random.key(0), (2, 128, 3))
    np.testing.assert_allclose(jax.jit(net.apply)({}, x, jnp.zeros(2)), x, atol=1e-5)
    assert shapes == [(2, 8, 2 * 33 * 3)]
    assert net.length_multiple == 16
    with pytest.raises(aj.InputError, match="length 130 is not a multiple of 16"):
        net.apply({}, jnp.zeros((1, 130, 1)))


def test_the_net_under_an_stft_may_have_another_number_of_channels():
    net = aj.nn.AppendChannels(
        aj.STFTTransform(
            aj.UNetV0(channels=(8,), factors=(2,), items=(1,), resnet_groups=4, modulation_features=16), 32, 8
        )
    )
    x = jnp.zeros((1, 64, 2))
    inputs = dict(x=x, time=jnp.zeros(1), append_channels=jnp.zeros((1, 64, 3)))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), **inputs))
    assert jax.eval_shape(lambda variables: net.apply(variables, **inputs), variables).shape == x.shape
