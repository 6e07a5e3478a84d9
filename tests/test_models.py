import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import TEXT_MODEL, UNET, text_batch

import archijax as aj
from archijax.models import per_item


@pytest.fixture(scope="module")
def text_model():
    model = TEXT_MODEL.build()
    return model, model.init(jax.random.key(0), text_batch(1))


def test_the_loss_is_the_error_of_the_prediction(text_model):
    model, variables = text_model
    batch, keys = text_batch(3), per_item(jax.random.key(3), 3)
    loss, (metrics, state) = model.loss(variables, keys, batch)
    t, eps, masked = model.draw(keys, batch["audio"].shape[1:])
    x = jnp.cos(t * jnp.pi / 2)[:, None, None] * batch["audio"] + jnp.sin(t * jnp.pi / 2)[:, None, None] * eps
    v = jnp.cos(t * jnp.pi / 2)[:, None, None] * eps - jnp.sin(t * jnp.pi / 2)[:, None, None] * batch["audio"]
    conditioning = model.conditioning(variables, batch)
    prediction = model.net.apply({"params": variables["params"]["net"]}, x, t, **conditioning, embedding_mask=masked)
    assert float(loss) == pytest.approx(float(jnp.mean((prediction - v) ** 2)), rel=1e-5)
    assert (metrics, state) == ({}, {})


def test_draws_are_uniform_normal_and_as_often_masked_as_asked(text_model):
    model, _ = text_model
    t, eps, masked = model.draw(jax.random.split(jax.random.key(0), 4000), (4, 2))
    np.testing.assert_allclose(np.quantile(t, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert abs(float(eps.mean())) < 0.02
    assert float(eps.std()) == pytest.approx(1, abs=0.02)
    assert float(masked.mean()) == pytest.approx(0.5, abs=0.03)


def test_an_item_draws_and_sounds_the_same_in_any_batch(text_model):
    model, variables = text_model
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


def test_the_loss_is_pure_under_jit_vmap_and_pmap(text_model):
    model, variables = text_model
    batch, keys = text_batch(4), per_item(jax.random.key(3), 4)

    def loss(keys, batch):
        return model.loss(variables, keys, batch)[0]

    plain = loss(keys, batch)
    assert float(jax.jit(loss)(keys, batch)) == pytest.approx(float(plain), rel=1e-5)
    single = jax.tree.map(lambda leaf: leaf[:, None], (keys, batch))
    each = jax.vmap(loss)(*single)
    assert float(each.mean()) == pytest.approx(float(plain), rel=1e-5)
    spread = jax.pmap(loss, devices=jax.devices()[:4])(*single)
    np.testing.assert_allclose(spread, each, rtol=1e-4)


def test_gradients_reach_every_parameter(text_model):
    model, variables = text_model
    batch, keys = text_batch(4), per_item(jax.random.key(3), 4)
    masked = jnp.array([True, False, False, True])
    t, eps, _ = model.draw(keys, (64, 2))
    gradient = jax.jit(jax.grad(lambda params: model.loss_given({"params": params}, batch, t, eps, masked)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)


def test_any_length_is_sampled_from_the_noise_of_that_length(text_model):
    model, variables = text_model
    batch = {name: value[:1] for name, value in text_batch(1).items() if name != "audio"}
    out = model.sample(variables, jax.random.key(0), shape=(1, 61, 2), num_steps=1, **batch)
    assert out.shape == (1, 61, 2)
    assert np.isfinite(out).all()
    start = model.start(jax.random.key(0), (1, 61, 2))
    assert start.shape == (1, 64, 2)
    drawn = jax.random.normal(per_item(jax.random.key(0), 1)[0], (61, 2))
    np.testing.assert_allclose(start[0, :61], drawn, atol=1e-6)
    given = model.sample(variables, jax.random.key(9), shape=(1, 61, 2), num_steps=1, noise=drawn[None], **batch)
    np.testing.assert_allclose(given, out, atol=1e-6)
    with pytest.raises(aj.InputError, match=r"noise has shape \(61, 2\)"):
        model.sample(variables, jax.random.key(0), shape=(1, 61, 2), num_steps=1, noise=drawn, **batch)


def test_a_pretrained_encoder_is_frozen():
    config = TEXT_MODEL.build()
    weights = config.embedder.init(jax.random.key(9), text_batch(1)["tokens"], text_batch(1)["token_mask"])["params"]
    model = aj.DiffusionModel(config.net, embedder=config.embedder, pretrained=lambda: weights)
    batch = text_batch(2)
    variables = model.init(jax.random.key(0), batch)
    assert set(variables["params"]) == {"net"}
    assert variables["frozen"]["embedder"] is weights
    gradient = jax.grad(lambda variables: model.loss(variables, jax.random.key(1), batch)[0])(variables)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(gradient["frozen"]))


def test_calls_that_cannot_work_say_why(text_model):
    model, variables = text_model
    with pytest.raises(aj.InputError, match="tokens and token_mask are missing"):
        model.loss(variables, jax.random.key(0), {"audio": jnp.zeros((1, 64, 2))})
    with pytest.raises(aj.InputError, match=r"shape to sample is \(0, 64, 2\)"):
        model.start(jax.random.key(0), (0, 64, 2))
    with pytest.raises(aj.InputError, match=r"keys have shape \(3,\): one key, or one per item \[2\]"):
        per_item(jax.random.split(jax.random.key(0), 3), 2)
    plain = aj.DiffusionConfig(aj.UNetConfig(**{**vars(UNET), "cross_attentions": ()}), length=64).build()
    with pytest.raises(aj.InputError, match="without a text encoder"):
        plain.conditioning({}, text_batch(1))
    with pytest.raises(aj.InputError, match=r"guidance is 3.0, but this model was not trained to be guided"):
        plain.denoiser({}, guidance=3.0)
