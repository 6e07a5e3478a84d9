"""Oobleck: coding by blocks, the receptive field of a frame, and the activation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.codecs.oobleck import Oobleck
from archijax.configs import OobleckConfig
from archijax.contract import Codec
from archijax.nn.snake import square_of_sine

NET = Oobleck(1, 2, channels=4, decoder_channels=3, multipliers=(1, 2), strides=(2, 4), block_frames=8)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(lambda: NET.init(jax.random.key(0), jnp.zeros((1, 8, 1))))
    draw = np.random.default_rng(0).standard_normal
    return jax.tree.map(lambda leaf: (0.3 * draw(leaf.shape)).astype(np.float32), shapes)


def apply(net, method):
    return jax.jit(lambda variables, x: net.apply(variables, x, method=method))


# A complete last block, and the shortest sound that is split, whose last block overlaps another.
@pytest.mark.parametrize("frames", [56, 49])
def test_blocks_are_the_whole(variables, frames):
    assert frames > 8 + 2 * NET.overlap
    whole = NET.clone(block_frames=None)
    sound = jax.random.normal(jax.random.key(1), (2, 8 * frames, 1))
    (latent, _), (expected, _) = (apply(net, "encode")(variables, sound) for net in (NET, whole))
    # Rounding errors grow with the largest values, and depend on the processor.
    np.testing.assert_allclose(latent, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    decoded, expected = (apply(net, "decode")(variables, expected) for net in (NET, whole))
    assert decoded.shape == sound.shape
    np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_a_frame_reaches_no_further_than_the_overlap(variables):
    net, frames = NET.clone(block_frames=None), 61
    latent = jax.random.normal(jax.random.key(1), (1, frames, 2))
    decode = apply(net, "decode")
    one, other = (np.asarray(decode(variables, each)) for each in (latent, latent.at[:, 30].add(1)))
    reached = np.flatnonzero(np.any((one != other).reshape(frames, 8, 1), axis=(1, 2)))
    assert 30 - NET.overlap <= reached.min() < 28
    assert 32 < reached.max() <= 30 + NET.overlap
    sound = jax.random.normal(jax.random.key(2), (1, 8 * frames, 1))
    encode = apply(net, "encode")
    one, other = (np.asarray(encode(variables, each)[0]) for each in (sound, sound.at[:, 240:248].add(1)))
    reached = np.flatnonzero(np.any(one != other, axis=(0, 2)))
    assert 30 - NET.overlap <= reached.min() < 28
    assert 32 < reached.max() <= 30 + NET.overlap


def test_the_square_of_sine():
    x = jnp.linspace(-300, 300, 100_001)
    np.testing.assert_allclose(square_of_sine(x), np.sin(np.asarray(x, np.float64)) ** 2, atol=2e-5)
    near = jnp.linspace(-10, 10, 100_001)
    np.testing.assert_allclose(square_of_sine(near), np.sin(np.asarray(near, np.float64)) ** 2, atol=2e-6)
    slope = jax.vmap(jax.grad(square_of_sine))(near)
    np.testing.assert_allclose(slope, np.sin(2 * np.asarray(near, np.float64)), atol=1e-5)


@pytest.mark.slow
def test_it_is_a_codec_that_trains(unchecked):
    config = OobleckConfig(
        encoder_channels=4, decoder_channels=4, multipliers=(1, 2), strides=(2, 2), latent_channels=2,
        sample_rate=8000, channels=1, length=64, windows=(32,),
    )  # fmt: skip
    model, batch = config.build(), {"audio": jax.random.normal(jax.random.key(0), (2, 64, 1))}
    assert isinstance(model, Codec)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    draw = np.random.default_rng(0).standard_normal
    variables = jax.tree.map(lambda leaf: (0.3 * draw(leaf.shape)).astype(np.float32), shapes)

    @jax.jit
    def gradient(params):
        loss = lambda params: model.loss({**variables, "params": params}, jax.random.key(1), batch)  # noqa: E731
        return jax.grad(loss, has_aux=True)(params)

    found, (metrics, _) = gradient(variables["params"])
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(found))
    assert {"waveform", "stft", "kl"} <= metrics.keys()


def test_bad_settings_are_one_sentence(variables):
    with pytest.raises(aj.InputError, match="the stride 3 is not an even number"):
        Oobleck(1, 2, multipliers=(1,), strides=(3,))
    with pytest.raises(aj.InputError, match="multipliers has 1 entries and strides has 2"):
        Oobleck(1, 2, multipliers=(1,), strides=(2, 2))
    with pytest.raises(aj.InputError, match="length 12 is not a multiple of 8"):
        NET.apply(variables, jnp.zeros((1, 12, 1)), method="encode")
    with pytest.raises(aj.InputError, match="the latent has 3 channels: this decoder reads 2"):
        NET.apply(variables, jnp.zeros((1, 4, 3)), method="decode")
    with pytest.raises(aj.InputError, match="length 100 is not a multiple of 2048"):
        OobleckConfig(length=100)
