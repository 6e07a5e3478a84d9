import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

from archijax.audio.stft import STFT
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import Encoder1d, ME1d
from archijax.errors import InputError

LEVELS = dict(channels=8, multipliers=(1, 1, 1), factors=(2, 2), num_blocks=(1, 1), resnet_groups=4)


@pytest.fixture(scope="module")
def judged():
    net = Discriminator1d(Encoder1d(**LEVELS))
    true, fake = jax.random.normal(jax.random.key(0), (2, 2, 16, 1))
    return net, drawn(net.init, true, fake), true, fake


def test_stages_are_half_scores_and_half_features(judged):
    net, variables, true, _ = judged

    @jax.jit
    def parts(variables, true):
        maps = net.encoder.apply({"params": variables["params"]["encoder"]}, true, method="features")
        return *net.apply(variables, true, method="stages"), maps

    scores, features, maps = parts(variables, true)
    assert [x.shape for x in scores] == [x.shape for x in features] == [(2, 16, 4), (2, 8, 4)]
    np.testing.assert_allclose(np.concatenate([scores[1], features[1]], -1), maps[1], rtol=1e-5, atol=1e-6)


def test_what_is_the_same_matches_and_scores_the_same(judged):
    net, variables, true, fake = judged
    apply = jax.jit(net.apply)
    _, _, info = apply(variables, true, true)
    assert float(info["feature_matching"]) == 0
    np.testing.assert_array_equal(info["scores_true"], info["scores_fake"])
    loss_generator, _, info = apply(variables, true, fake)
    assert float(loss_generator) == pytest.approx(
        float(info["feature_matching"] - info["scores_fake"].mean()), abs=1e-6
    )


def test_each_loss_trains_its_own(judged):
    net, variables, true, fake = judged

    def losses(params, fake):
        return net.apply({"params": params}, true, fake)[:2]

    @jax.jit
    def step(params, fake):
        generator, by_fake = jax.value_and_grad(lambda fake: losses(params, fake)[0])(fake)
        discriminator, by_params = jax.value_and_grad(lambda params: losses(params, fake)[1])(params)
        moved = jax.tree.map(lambda p, g: p - 0.01 * g, params, by_params)
        return (generator, discriminator), fake - 0.01 * by_fake, moved

    params = variables["params"]
    before, better_fake, better_params = step(params, fake)
    assert step(params, better_fake)[0][0] < before[0]
    assert step(better_params, fake)[0][1] < before[1]


def test_stages_can_be_left_out(judged):
    net, variables, true, fake = judged
    _, _, info = jax.eval_shape(net.clone(use_loss=(False, True)).apply, variables, true, fake)
    assert info["scores_true"].shape == (1,)
    for use in ((True,), (False, False)):
        with pytest.raises(InputError, match="2 entries, one per level, not all False"):
            jax.eval_shape(net.clone(use_loss=use).apply, variables, true, fake)


def test_a_spectral_encoder_judges_silence_without_nan():
    levels = dict(channels=4, multipliers=(1, 1), factors=(2,), num_blocks=(0,))
    net = Discriminator1d(ME1d(**levels, stft=STFT(15, 4), use_log=True))
    silence = jnp.zeros((1, 32, 1))
    variables = drawn(net.init, silence, silence)
    gradient = jax.jit(jax.grad(lambda v, fake: net.apply(v, silence, fake)[0], (0, 1)))(variables, silence)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
