import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

import archijax as aj
from archijax.configs import from_dict, to_dict
from archijax.contract import EndlessGenerator
from archijax.keys import per_item
from archijax.pipeline import Pipeline, SampleSettings


@pytest.fixture(scope="module")
def model():
    net = aj.nn.AppendChannels(
        aj.UNetV0(
            channels=(8,), factors=(2,), items=(1,), resnet_groups=4, use_time_conditioning=False, use_modulation=False
        )
    )
    return aj.DiffusionAR(net, length=32, num_splits=4)


@pytest.fixture(scope="module")
def variables(model):
    return drawn(model.init, {"audio": jnp.zeros((1, 32, 2))})


def test_the_ladder_moves_on_by_a_split(model):
    ladder = model.ladder(12)
    assert ladder.shape == (4, 32, 1)
    rungs = ladder[:, ::8, 0]
    np.testing.assert_array_equal(rungs[:, :2], 0)
    # Split i ends at the noise level at which split i - 1 began. The first split ends without noise, the last begins as
    # noise.
    np.testing.assert_allclose(rungs[-1, 3], rungs[0, 2])
    assert rungs[-1, 2] == 0
    assert rungs[0, 3] == 1
    assert (np.diff(rungs[:, 2:], axis=0) <= 0).all()


def test_any_number_of_chunks_begins_alike(model, variables):
    @functools.partial(jax.jit, static_argnums=1)
    def sample(keys, time):
        return model.sample(variables, keys, num_steps=4, shape=(len(keys), time, 2))

    keys = per_item(jax.random.key(1), 2)
    long = sample(keys, 72)
    assert long.shape == (2, 72, 2)
    assert np.isfinite(long).all()
    # A short sound equals the start of a longer sound.
    np.testing.assert_allclose(sample(keys, 32)[:, :16], long[:, :16], atol=1e-5)
    np.testing.assert_allclose(sample(keys[:1], 48), long[:1, :48], atol=1e-5)


def test_a_stream_without_an_end_is_the_sound_of_a_sample(model, variables):
    noise, ladder_noise = jax.random.normal(jax.random.key(4), (2, 1, 32, 2))
    fresh = jax.random.normal(jax.random.key(5), (7, 1, 8, 2))
    wanted = jax.jit(lambda *draws: model.sample_given(variables, *draws, num_steps=4))(noise, ladder_noise, fresh)
    start = jax.jit(lambda noise: model.start(variables, noise, num_steps=4))(noise)
    shift = jax.jit(lambda window, noise: model.shift(variables, window, noise, num_steps=4))
    window, heard = model.noised_to_ladder(start, ladder_noise, num_steps=4), [start[:, :16]]
    for noise in fresh[:5]:
        window, split = shift(window, noise)
        heard.append(split)
    np.testing.assert_allclose(jnp.concatenate(heard, axis=1), wanted, atol=1e-5)


def test_the_loss_sees_a_noise_level_for_every_split(model, variables):
    batch = {"audio": jax.random.normal(jax.random.key(2), (3, 32, 2))}
    keys = per_item(jax.random.key(3), 3)
    t, eps = jax.jit(model.draw, static_argnums=1)(keys, (32, 2))
    assert t.shape == (3, 4)

    @jax.jit
    def both(t, eps, audio):
        levels = jnp.repeat(t, 8, axis=1)[..., None]
        cos, sin = (wave(levels * jnp.pi / 2) for wave in (jnp.cos, jnp.sin))
        x, v = cos * audio + sin * eps, cos * eps - sin * audio
        prediction = model.net.apply({"params": variables["params"]["net"]}, x, append_channels=levels)
        return model.loss(variables, keys, {"audio": audio})[0], jnp.mean((prediction - v) ** 2)

    loss, wanted = both(t, eps, batch["audio"])
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


def test_what_cannot_be_made_says_why(model, variables):
    with pytest.raises(aj.InputError, match="number of splits is 3: it must be even"):
        aj.DiffusionAR(model.net, length=33, num_splits=3)
    for process in (aj.ddpm(), aj.edm()):
        with pytest.raises(aj.InputError, match="v-diffusion or a rectified flow is needed"):
            aj.DiffusionAR(model.net, length=32, num_splits=4, process=process)
    with pytest.raises(aj.InputError, match="length is 33"):
        aj.DiffusionAR(model.net, length=33, num_splits=4)
    with pytest.raises(aj.InputError, match="sounds have 16 samples"):
        jax.eval_shape(model.loss, variables, jax.random.key(0), {"audio": jnp.zeros((1, 16, 2))})
    with pytest.raises(aj.InputError, match="steps is 3"):
        jax.eval_shape(lambda key: model.sample(variables, key, shape=(1, 40, 2), num_steps=3), jax.random.key(0))
    draws = jnp.zeros((1, 32, 2)), jnp.zeros((1, 32, 2)), jnp.zeros((3, 1, 8, 2))
    with pytest.raises(aj.InputError, match="the number of chunks is 3"):
        jax.eval_shape(lambda *draws: model.sample_given(variables, *draws, num_steps=4), *draws)


CONFIG = aj.configs.AutoregressiveConfig(
    aj.configs.UNetConfig(channels=(8,), factors=(2,), items=(1,), resnet_groups=4, modulation_features=4),
    sample_rate=8000,
    channels=2,
    length=32,
    num_splits=4,
)


def test_the_pipeline_makes_the_sounds_of_a_sample_split_by_split(variables):
    model = CONFIG.build()
    assert isinstance(model, EndlessGenerator)
    pipeline = Pipeline(CONFIG, model, variables)
    sounds, rate = pipeline.generate(seconds=70 / 8000, num_steps=4, seed=3, count=2)
    assert (sounds.shape, rate) == ((2, 70, 2), 8000)
    keys = per_item(jax.random.key(3), 2)
    wanted = jax.jit(lambda keys: model.sample(variables, keys, shape=(2, 70, 2), num_steps=4))(keys)
    np.testing.assert_allclose(sounds, wanted, atol=1e-5)
    generation = pipeline.generation(SampleSettings(num_steps=4), [""], [(0, 0)], seconds=70 / 8000)
    generation.check()
    taken = []
    ((_, _, one),) = generation.run(taken.append)
    assert one.shape == (70, 2)
    assert sum(taken) == generation.steps
    for settings, words in ({"sampler": "heun"}, "sampler is heun"), ({"num_steps": 3}, "at least the 4 splits"):
        with pytest.raises(aj.InputError, match=words):
            pipeline.generate(seconds=0.01, **{"num_steps": 4, **settings})


def test_its_settings_make_sense():
    for changes, words in (
        ({"length": 33}, "length 33 is not a multiple of 2"),
        ({"num_splits": 3}, "it must be even"),
        ({"unet": dataclasses.replace(CONFIG.unet, cross_attentions=(1,))}, "endless sound has none"),
    ):
        with pytest.raises(aj.InputError, match=words):
            dataclasses.replace(CONFIG, **changes).build()
    assert from_dict(json.loads(json.dumps(to_dict(CONFIG)))) == CONFIG
