"""Losses by name, and the diffusion settings of a config."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL, variables_of

import archijax as aj
from archijax.audio.weighting import a_weighted, a_weighting
from archijax.configs import example_batch
from archijax.keys import per_item
from archijax.models.errors import HUBER, huber, named_error

CONFIG = aj.configs.DiffusionConfig(
    unet=dataclasses.replace(LATENT_MODEL.unet, cross_attentions=()), sample_rate=8000, channels=1, length=256
)


def test_a_weighting_has_the_standard_values():
    # IEC 61672-1, table 3, in dB, at exact frequencies.
    wanted = {10**1.5: -39.4, 100: -19.1, 1000: 0.0, 10**3.3: 1.2, 10_000: -2.5}
    decibels = 20 * np.log10(a_weighting(np.array([*wanted])))
    np.testing.assert_allclose(decibels, [*wanted.values()], atol=0.1)
    assert a_weighting(np.zeros(1))[0] == 0
    time = np.arange(8000) / 8000
    low, high = (np.float32(np.sin(2 * np.pi * f * time))[None, :, None] for f in (100, 1000))
    power = [float(jnp.mean(a_weighted(tone, 8000) ** 2)) for tone in (low, high)]
    np.testing.assert_allclose(10 * np.log10(np.array(power) / 0.5), [-19.1, 0.0], atol=0.1)


def test_hubers_error_is_smooth():
    d = jnp.array([-3 * HUBER, 0.0, HUBER / 2, HUBER, 2 * HUBER])
    np.testing.assert_allclose(huber(d, jnp.zeros(5)), HUBER**2 * np.array([5, 0, 0.25, 1, 3]), rtol=1e-5)
    slopes = jax.vmap(jax.grad(lambda x: huber(x, jnp.zeros(()))))(jnp.array([HUBER * 0.999, HUBER * 1.001]))
    np.testing.assert_allclose(slopes, 2 * HUBER, rtol=2e-3)


@pytest.mark.parametrize("name", ["l1", "huber", "a_weighted", "stft", "mel"])
def test_each_is_zero_where_the_net_is_right_alone(name):
    settings = named_error(name, 8000, 256)
    x0, eps = jax.random.normal(jax.random.key(0), (2, 3, 256, 1)) * 0.3
    process, t = aj.v_diffusion(), jnp.array([0.1, 0.5, 0.9])
    net = aj.nn.SkipAdd()  # the net is not called
    model = aj.DiffusionModel(net, **settings)

    class Right(aj.DiffusionModel):
        def _net(self, variables):
            return lambda x, t: process.target(x0, eps, t) + variables["off"]

    right = Right(net, **settings)
    assert model.error is right.error or name in ("a_weighted", "stft", "mel")
    found = jax.jit(lambda off: right.errors({"off": off}, {"audio": x0}, t, eps))
    errors = [np.asarray(found(off * jnp.ones_like(eps))) for off in (0.0, 0.3)]
    assert errors[0].shape == (3,)
    np.testing.assert_allclose(errors[0], 0, atol=1e-3)
    if name != "a_weighted":  # its gain for a constant is zero
        assert (errors[1] > 3e-3).all()
    assert (np.asarray(found(0.3 * eps)) > 1e-3).all()


def test_a_config_says_how_it_is_trained_and_sampled():
    config = dataclasses.replace(CONFIG, error="stft", min_snr=5.0, timestep_range=(0.1, 0.9))
    model = config.build()
    times = model.process.timesteps(4)
    np.testing.assert_allclose(times[[0, -1]], [0.9, 0.1], atol=1e-6)
    variables = variables_of(config)
    audio = 0.3 * jax.random.normal(jax.random.key(1), (2, 256, 1))

    def loss(params):
        return model.loss({**variables, "params": params}, per_item(jax.random.key(2), 2), {"audio": audio})[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    cosine = dataclasses.replace(CONFIG, method="ddpm", betas="cosine").process()
    assert cosine == aj.ddpm(betas="cosine")
    edm = dataclasses.replace(CONFIG, method="edm", sigma_range=(0.01, 20.0)).process()
    times = edm.timesteps(5)
    np.testing.assert_allclose(times[[0, -2]], [20.0, 0.01], rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"error": "log"}, "error is 'log': mse, l1"),
        ({"error": "mel", "length": 64}, "at least 128 samples, not 64"),
        ({"error": "stft", "method": "ddpm"}, "implies no sound"),
        ({"min_snr": 0.0}, "min_snr is 0.0"),
        ({"betas": "cosine"}, "the method v has none"),
        ({"sigma_range": (0.1, 2.0)}, "the method v has none"),
        ({"method": "edm", "timestep_range": (0.1, 1.0)}, "use sigma_range"),
        ({"timestep_range": (0.9, 0.1)}, "both must be in"),
    ],
)
def test_settings_that_make_no_sense(changes, message, unchecked):
    with pytest.raises(aj.InputError, match=message):
        dataclasses.replace(CONFIG, **changes).build()


def test_latents_are_no_sound():
    with pytest.raises(aj.InputError, match="compares sound, but this model diffuses latents"):
        dataclasses.replace(LATENT_MODEL, error="a_weighted").build()


@pytest.mark.parametrize("unet", [{"item": "convnext"}, {"item": "adaptive"}, {"linear_attention": True}])
def test_other_items(unet):
    config = dataclasses.replace(CONFIG, unet=dataclasses.replace(CONFIG.unet, attentions=(1,), **unet), length=8)
    shapes = jax.eval_shape(config.build().init, jax.random.key(0), example_batch(config))["params"]["net"]["net"]
    item = shapes["down_0"]["items_0"]
    assert ("depthwise" in item) == ("item" in unet)
    attention = config.build().net.net.blocks[0].items[-1]
    assert attention.linear == ("linear_attention" in unet)


def test_random_filters():
    transform = aj.configs.LearnedTransformConfig(num_filters=8, window_length=8, stride=4, filters="random")
    config = dataclasses.replace(CONFIG, transform=transform)
    filters = jax.jit(lambda key: config.build().init(key, example_batch(config))["params"]["net"]["encode"])
    one, other = (np.asarray(filters(jax.random.key(seed))) for seed in (0, 1))
    assert one.shape == (8, 1, 8)
    assert not np.allclose(one, other)
    assert np.abs(one).max() <= 8**-0.5
