import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL, TEXT_MODEL, UNET, drawn, text_batch

import archijax as aj
from archijax.keys import per_item


@pytest.fixture(scope="module")
def text_model():
    model = TEXT_MODEL.build()
    return model, drawn(model.init, text_batch(1))


@pytest.fixture(scope="module")
def small_model():
    """The text model with a net of one depth."""
    model = dataclasses.replace(TEXT_MODEL, unet=LATENT_MODEL.unet).build()
    return model, drawn(model.init, text_batch(1), scale=0.2)


def test_the_loss_is_the_error_of_the_prediction(text_model):
    model, variables = text_model

    @jax.jit
    def both(keys, batch):
        t, eps, masked = model.draw(keys, batch["audio"].shape[1:])
        cos, sin = (wave(t * jnp.pi / 2)[:, None, None] for wave in (jnp.cos, jnp.sin))
        x, v = cos * batch["audio"] + sin * eps, cos * eps - sin * batch["audio"]
        conditioning = model.conditioning(variables, batch)
        params = {"params": variables["params"]["net"]}
        prediction = model.net.apply(params, x, t, **conditioning, embedding_mask=masked)
        return model.loss(variables, keys, batch), jnp.mean((prediction - v) ** 2)

    (loss, (metrics, state)), wanted = both(per_item(jax.random.key(3), 3), text_batch(3))
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    assert state == {}
    # The loss by noise level sums to the loss, and the weights to 1.
    weights = {name: float(value) for name, value in metrics.items() if name.endswith(":weight")}
    levels = {name: float(value) for name, value in metrics.items() if name not in weights}
    assert sum(levels.values()) == pytest.approx(float(loss), rel=1e-5)
    assert sum(weights.values()) == pytest.approx(1)


def test_draws_are_uniform_normal_and_as_often_masked_as_asked(text_model):
    model, _ = text_model
    t, eps, masked = jax.device_get(
        jax.jit(model.draw, static_argnums=1)(jax.random.split(jax.random.key(0), 4000), (4, 2))
    )
    np.testing.assert_allclose(np.quantile(t, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert abs(float(eps.mean())) < 0.02
    assert float(eps.std()) == pytest.approx(1, abs=0.02)
    assert float(masked.mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_an_item_draws_and_sounds_the_same_in_any_batch(small_model, unchecked):
    model, variables = small_model
    keys = per_item(jax.random.key(3), 4)
    for many, one in zip(model.draw(keys, (64, 2)), model.draw(keys[2:3], (64, 2)), strict=True):
        np.testing.assert_array_equal(many[2:3], one)

    batch = {name: value for name, value in text_batch(4).items() if name != "audio"}
    sampler = jax.jit(model.sample, static_argnames=("shape", "num_steps"))
    four = sampler(variables, keys, shape=(4, 64, 2), num_steps=3, guidance=2.0, **batch)
    alone = {name: value[2:3] for name, value in batch.items()}
    one = sampler(variables, keys[2:3], shape=(1, 64, 2), num_steps=3, guidance=2.0, **alone)
    np.testing.assert_allclose(four[2:3], one, atol=1e-5)
    np.testing.assert_array_equal(
        four, sampler(variables, jax.random.key(3), shape=(4, 64, 2), num_steps=3, guidance=2.0, **batch)
    )


@pytest.mark.slow
def test_the_loss_is_pure_under_jit_vmap_and_pmap(small_model, unchecked):
    model, variables = small_model
    batch, keys = text_batch(4), per_item(jax.random.key(3), 4)

    def loss(keys, batch):
        return model.loss(variables, keys, batch)[0]

    plain = loss(keys, batch)
    assert float(jax.jit(loss)(keys, batch)) == pytest.approx(float(plain), rel=1e-5)
    single = jax.tree.map(lambda leaf: leaf[:, None], (keys, batch))
    each = jax.jit(jax.vmap(loss))(*single)
    assert float(each.mean()) == pytest.approx(float(plain), rel=1e-5)
    spread = jax.pmap(loss, devices=jax.devices()[:4])(*single)
    np.testing.assert_allclose(spread, each, rtol=1e-4)


def test_gradients_reach_every_parameter(text_model):
    model, variables = text_model
    batch, masked = text_batch(4), jnp.array([True, False, False, True])
    t, eps = jnp.float32([0.2, 0.4, 0.6, 0.8]), jax.random.normal(jax.random.key(3), (4, 64, 2))
    gradient = jax.jit(jax.grad(lambda params: model.loss_given({"params": params}, batch, t, eps, masked)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_any_length_is_sampled_from_the_noise_of_that_length_whole_or_by_windows(text_model):
    model, variables = text_model
    batch = {name: value for name, value in text_batch(1).items() if name != "audio"}

    @functools.partial(jax.jit, static_argnames=("length", "window"))
    def run(key, length=61, **settings):
        return model.sample(variables, key, shape=(1, length, 2), num_steps=2, **batch, **settings)

    out = run(jax.random.key(0))
    assert out.shape == (1, 61, 2)
    assert np.isfinite(out).all()
    start = model.start(jax.random.key(0), (1, 61, 2))
    assert start.shape == (1, 64, 2)
    drawn = jax.random.normal(per_item(jax.random.key(0), 1)[0], (61, 2))
    np.testing.assert_allclose(start[0, :61], drawn, atol=1e-6)
    # A window longer than the sound changes nothing.
    given = run(jax.random.key(9), noise=drawn[None], window=256)
    np.testing.assert_allclose(given, out, atol=1e-6)
    assert jax.eval_shape(functools.partial(run, length=200, window=64), jax.random.key(0)).shape == (1, 200, 2)
    with pytest.raises(aj.InputError, match="window has 60 samples: a multiple of 8"):
        run(jax.random.key(0), length=200, window=60)


def test_features_alone_are_dropped_in_training_and_guided_away_from():
    class Net(nn.Module):
        """A net that returns its features, so that the test can check them."""

        @nn.compact
        def __call__(self, x, time, *, features):
            return jnp.zeros_like(x) + features[:, None, :1] * self.param("gain", nn.initializers.ones, (1,))

    model = aj.DiffusionModel(Net(), cond_drop_prob=0.5)
    batch = {"audio": jnp.zeros((2, 8, 1)), "features": jnp.array([[3.0, 1.0], [5.0, 1.0]])}

    @jax.jit
    def found(batch, away):
        variables, t = model.init(jax.random.key(0), batch), jnp.full(2, 0.5)
        errors = model.errors(variables, batch, t, jnp.zeros((2, 8, 1)), jnp.array([True, False]))
        guided = [
            model.denoiser(variables, guidance=2.0, features=batch["features"], **negative)(batch["audio"], t)
            for negative in ({}, {"negative": away})
        ]
        return errors, *(denoised[:, 0, 0] for denoised in guided)

    errors, from_none, from_away = found(batch, {"features": jnp.ones((2, 2))})
    # The target is zero, so the error is the square of the net's input.
    np.testing.assert_allclose(errors, [0, 25])
    np.testing.assert_allclose(from_none, [6, 10])
    np.testing.assert_allclose(from_away, [5, 9])


def test_a_pretrained_encoder_is_frozen():
    config = dataclasses.replace(TEXT_MODEL, unet=LATENT_MODEL.unet, transform=None).build()
    batch = text_batch(2)
    weights = drawn(config.embedder.init, batch["tokens"], batch["token_mask"])["params"]
    model = aj.DiffusionModel(config.net, embedder=config.embedder, frozen_embedder=True)

    def init(key, batch):
        variables = model.init(key, batch, {"embedder": weights})
        assert variables["frozen"]["embedder"] is weights
        return variables

    variables = {**drawn(init, batch), "frozen": {"embedder": weights}}
    assert set(variables["params"]) == {"net"}

    @jax.jit
    def gradient(frozen):
        return jax.grad(lambda frozen: model.loss({**variables, "frozen": frozen}, jax.random.key(1), batch)[0])(frozen)

    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradient(variables["frozen"])))

    # A batch can have an embedding in place of tokens. With both, the embeddings are concatenated.
    text = jax.random.normal(jax.random.key(2), (2, 6, 8))
    encoded = {"audio": batch["audio"], "embedding": text}
    assert model.conditioning(variables, encoded)["embedding"] is text
    joined = jax.eval_shape(model.conditioning, variables, {**batch, "embedding": text})
    assert joined["embedding"].shape == (2, 12, 8)
    one, two = (jax.eval_shape(model.init, jax.random.key(0), given) for given in (batch, encoded))
    assert one == two
    with pytest.raises(aj.InputError, match="tokens and token_mask are missing"):
        config.init(jax.random.key(0), encoded)


def test_calls_that_cannot_work_say_why(text_model, unchecked):
    model, variables = text_model
    with pytest.raises(aj.InputError, match="tokens and token_mask are missing"):
        model.loss(variables, jax.random.key(0), {"audio": jnp.zeros((1, 64, 2))})
    with pytest.raises(aj.InputError, match=r"shape to sample is \(0, 64, 2\)"):
        model.start(jax.random.key(0), (0, 64, 2))
    for settings, words in (
        ({"strength": 0.5}, "strength 0.5 needs a source"),
        ({"mask": jnp.ones((64, 1), bool)}, "a mask needs a source"),
        ({"source": jnp.zeros((1, 64, 2))}, "has no effect"),
        ({"source": jnp.zeros((1, 60, 2)), "strength": 0.5}, r"source has shape \(1, 60, 2\)"),
        ({"source": jnp.zeros((1, 64, 2)), "mask": jnp.ones((1, 64), bool)}, r"the mask is bool of shape \(1, 64\)"),
        ({"circular": True}, "a circular sound needs windows"),
        ({"noise": jnp.zeros((64, 2))}, r"noise has shape \(64, 2\)"),
    ):
        batch = {name: value for name, value in text_batch(1).items() if name != "audio"}
        with pytest.raises(aj.InputError, match=words):
            model.sample(variables, jax.random.key(0), shape=(1, 64, 2), num_steps=1, **settings, **batch)
    with pytest.raises(aj.InputError, match=r"keys of jax\.random\.key are needed"):
        per_item(jax.random.PRNGKey(0), 2)
    with pytest.raises(aj.InputError, match=r"keys have shape \(3,\): one key, or one per item \[2\]"):
        per_item(jax.random.split(jax.random.key(0), 3), 2)
    plain = aj.configs.DiffusionConfig(
        aj.configs.UNetConfig(**{**vars(UNET), "cross_attentions": ()}), length=64
    ).build()
    with pytest.raises(aj.InputError, match="this model takes no prompt"):
        plain.conditioning({}, text_batch(1))
    with pytest.raises(aj.InputError, match="not trained for guidance"):
        plain.denoiser({}, guidance=3.0)


@pytest.mark.slow
def test_samplers_guidance_and_edits_go_through_sample(small_model, unchecked):
    model, variables = small_model
    batch = {name: value for name, value in text_batch(2).items() if name != "audio"}
    keys, shape = per_item(jax.random.key(3), 2), (2, 61, 2)
    source = 0.3 * jax.random.normal(jax.random.key(4), shape)
    mask = (jnp.arange(61) < 40)[:, None]

    @functools.partial(
        jax.jit,
        static_argnames=(
            "sampler",
            "timestep_spacing",
            "strength",
            "clamp",
            "num_resamples",
            "masked",
            "return_estimates",
        ),
    )
    def sample(keys, guidance=1.0, source=None, negative=None, masked=False, **settings):
        return model.sample(
            variables, keys, shape=shape, num_steps=3, guidance=guidance, source=source, negative=negative,
            mask=mask if masked else None, **settings, **batch,
        )  # fmt: skip

    plain = sample(keys)
    for settings in ({"sampler": aj.DPMSolverPP(stochastic=True), "timestep_spacing": "karras"}, {"clamp": 0.01}):
        found = sample(keys, **settings)
        assert np.isfinite(found).all()
        assert float(jnp.abs(found - plain).max()) > 1e-3
    # Guidance in one batch, with two calls, and with a negative prompt.
    guided = sample(keys, aj.Guidance(3.0))
    np.testing.assert_allclose(sample(keys, aj.Guidance(3.0, sequential=True)), guided, atol=1e-4)
    same = {name: value for name, value in batch.items()}
    np.testing.assert_allclose(sample(keys, aj.Guidance(3.0), negative=same), plain, atol=1e-4)
    other = {**same, "tokens": same["tokens"][::-1]}
    assert float(jnp.abs(sample(keys, aj.Guidance(3.0), negative=other) - guided).max()) > 1e-3
    scales = jnp.array([1.0, 3.0])
    swept = jax.vmap(lambda scale: sample(keys, scale))(scales)
    np.testing.assert_allclose(swept[0], plain, atol=1e-4)
    np.testing.assert_allclose(swept[1], guided, atol=1e-4)
    # A masked source is kept exactly. A source with little noise is kept approximately.
    np.testing.assert_array_equal(sample(keys, source=source, masked=True, num_resamples=2)[:, :40], source[:, :40])
    near, far = (jnp.abs(sample(keys, source=source, strength=s) - source).mean() for s in (0.02, 0.9))
    assert float(near) < 0.1 * float(far)
    _, estimates = sample(keys, return_estimates=True)
    assert estimates.shape == (3, *shape)


@pytest.mark.slow
def test_eight_devices_sample_what_one_does(small_model, unchecked):
    model, variables = small_model
    batch = {name: value for name, value in text_batch(8).items() if name != "audio"}
    keys = per_item(jax.random.key(3), 8)

    def sample(keys, batch):
        return model.sample(
            variables, keys, shape=(len(keys), 64, 2), num_steps=2, sampler=aj.DDPM(), guidance=2.0, **batch
        )

    one = jax.jit(sample)(keys, batch)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), "items")
    spread = jax.device_put((keys, batch), jax.NamedSharding(mesh, jax.P("items")))
    shared = jax.jit(sample)(*spread)
    assert len(shared.sharding.device_set) == 8
    np.testing.assert_allclose(shared, one, atol=1e-5)
    mapped = jax.pmap(sample)(*jax.tree.map(lambda leaf: leaf[:, None], (keys, batch)))
    np.testing.assert_allclose(mapped[:, 0], one, atol=1e-5)


@pytest.mark.parametrize("method", ["v", "ddpm", "edm", "flow"])
def test_every_method_trains_and_samples(method):
    unet = dataclasses.replace(LATENT_MODEL.unet, cross_attentions=())
    config = dataclasses.replace(TEXT_MODEL, text=None, unet=unet, transform=None, method=method)
    model = dataclasses.replace(config.build(), stratified=True)
    batch = {"audio": text_batch(2)["audio"]}

    @jax.jit
    def both(variables):
        loss = lambda variables: model.loss(variables, jax.random.key(1), batch)[0]  # noqa: E731
        return jax.value_and_grad(loss)(variables), model.sample(
            variables, jax.random.key(2), shape=(1, 64, 2), num_steps=4
        )

    (loss, gradient), out = both(drawn(model.init, batch))
    # The error of an untrained net is about the size of the target, which is near 1 with every method.
    assert 0.1 < float(loss) < 10
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.isfinite(out).all()


def test_the_error_and_the_weight_of_the_loss_are_options(text_model):
    model, variables = text_model
    batch, masked = text_batch(3), jnp.array([False, True, False])
    t, eps = jnp.float32([0.1, 0.2, 0.4]), jax.random.normal(jax.random.key(3), (3, 64, 2))
    absolute = dataclasses.replace(model, error=lambda a, b: jnp.abs(a - b))
    # A weight that selects the first item.
    first = dataclasses.replace(absolute, weight=lambda times: (times == t[0]).astype(times.dtype))

    @jax.jit
    def losses(*given):
        return [each.loss_given(variables, *given) for each in (first, absolute, model)]

    weighted, plain, squared = losses(batch, t, eps, masked)
    _, alone, _ = losses(*jax.tree.map(lambda leaf: np.repeat(leaf[:1], 3, axis=0), (batch, t, eps, masked)))
    assert float(weighted) == pytest.approx(float(alone) / 3, rel=1e-4)
    assert float(plain) != pytest.approx(float(squared), rel=1e-2)
