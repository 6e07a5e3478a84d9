import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import UNET

import archijax as aj

X, T = jax.random.normal(jax.random.key(0), (3, 8, 2)), jnp.array([0.1, 0.5, 0.9])
EMBEDDING = jax.random.normal(jax.random.key(1), (3, 4, 6))


@pytest.fixture(scope="module")
def guided():
    net = aj.UNetV0(**vars(UNET), embedding_features=6, use_embedding_cfg=True, embedding_max_length=5)
    return jax.jit(net.apply), jax.jit(net.init)(jax.random.key(2), X, T, embedding=EMBEDDING)


def test_guidance_in_one_batch_equals_two_calls_and_takes_a_scale_per_item(guided):
    apply, variables = guided
    conditional = apply(variables, X, T, embedding=EMBEDDING)
    masked = apply(variables, X, T, embedding=EMBEDDING, embedding_mask=jnp.ones(3, bool))
    assert not np.allclose(conditional, masked, atol=1e-3)
    both = apply(variables, X, T, embedding=EMBEDDING, embedding_scale=4.0)
    np.testing.assert_allclose(both, masked + (conditional - masked) * 4, rtol=1e-4, atol=1e-5)
    scales = jnp.array([1.0, 0.0, 3.0])
    each = apply(variables, X, T, embedding=EMBEDDING, embedding_scale=scales)
    np.testing.assert_allclose(each, masked + (conditional - masked) * scales[:, None, None], rtol=1e-4, atol=1e-5)


def test_masking_replaces_only_the_items_it_names(guided):
    apply, variables = guided
    conditional = apply(variables, X, T, embedding=EMBEDDING)
    some = apply(variables, X, T, embedding=EMBEDDING, embedding_mask=jnp.array([False, True, False]))
    np.testing.assert_allclose(some[::2], conditional[::2], atol=1e-6)
    assert not np.allclose(some[1], conditional[1], atol=1e-3)


def test_embeddings_that_do_not_fit_are_refused(guided, unchecked):
    apply, variables = guided
    for shape in ((3, 6, 6), (3, 4, 7)):
        with pytest.raises(aj.InputError, match=f"{shape[1]} tokens of {shape[2]} features: at most 5 tokens of 6"):
            apply(variables, X, T, embedding=jnp.zeros(shape))


def test_several_times_are_summed_and_features_added():
    net = aj.UNetV0(channels=(8,), factors=(1,), items=(1,), resnet_groups=4, modulation_features=16)
    variables = jax.jit(net.init)(jax.random.key(0), X, T)
    apply = jax.jit(net.apply)
    twice = apply(variables, X, jnp.stack([T, T], axis=1))
    assert not np.allclose(twice, apply(variables, X, T))
    # Features that equal the time features have the same effect as a second time.
    h = nn.gelu(aj.nn.NumberEmbedder(16).apply({"params": variables["params"]["embedder"]}, T), approximate=False)
    layer = variables["params"]["layer"]
    for _ in range(2):
        h = nn.gelu(h @ layer["kernel"] + layer["bias"], approximate=False)
    np.testing.assert_allclose(apply(variables, X, T, features=h), twice, rtol=1e-4, atol=1e-5)


def test_classes_and_numbers_enter_as_features_or_as_tokens():
    class Song(nn.Module):
        """A genre as features, and a duration as a token of the embedding."""

        net: nn.Module

        @nn.compact
        def __call__(self, x, time, *, genre, seconds):
            features = aj.nn.ClassEmbedder(num_classes=3, features=16)(genre)
            token = aj.nn.NumberEmbedder(6)(seconds)[:, None]
            return self.net(x, time, features=features, embedding=token)

    net = Song(aj.UNetV0(**vars(UNET), embedding_features=6))
    inputs = {"genre": jnp.array([0, 1, 2]), "seconds": jnp.array([1.0, 2.0, 30.0])}
    variables = jax.jit(net.init)(jax.random.key(0), X, T, **inputs)
    apply = jax.jit(net.apply)
    out = apply(variables, X, T, **inputs)
    for name, other in (("genre", jnp.array([0, 2, 2])), ("seconds", jnp.array([1.0, 3.0, 30.0]))):
        changed = apply(variables, X, T, **{**inputs, name: other})
        moved = np.abs(changed - out).max((1, 2))
        assert moved[1] > 1e-4, name
        np.testing.assert_allclose(moved[::2], 0, atol=1e-6)


def test_appended_channels_reach_the_result_but_do_not_widen_it():
    net = aj.nn.AppendChannels(
        aj.LearnedTransform(
            aj.UNetV0(channels=(8,), factors=(1,), items=(1,), resnet_groups=4, modulation_features=16), 4, 4, 2
        )
    )
    extra = jax.random.normal(jax.random.key(3), (3, 8, 5))
    variables = jax.jit(net.init)(jax.random.key(0), X, T, append_channels=extra)
    apply = jax.jit(net.apply)
    out = apply(variables, X, T, append_channels=extra)
    assert out.shape == X.shape
    assert not np.allclose(out, apply(variables, X, T, append_channels=extra * 2))
    assert net.length_multiple == 2


def test_positions_are_waves_beside_the_channels_of_x():
    class Same(nn.Module):
        out_channels: int | None = None

        def __call__(self, x, out_channels):
            assert out_channels == 2
            return x

    x = aj.nn.AppendPositions(Same(), count=2).apply({}, X)
    assert x.shape == (3, 8, 6)
    np.testing.assert_array_equal(x[..., :2], X)
    n = np.arange(8) * 2 * np.pi
    waves = [np.sin(n / 16), np.sin(n / 32), np.cos(n / 16), np.cos(n / 32)]
    for item in x[..., 2:]:
        np.testing.assert_allclose(item, np.stack(waves, -1), atol=1e-6)


def test_a_net_with_positions_tells_equal_inputs_apart():
    x = jnp.ones((1, 32, 2))
    for positions in (0, 2):
        net = aj.UNetV0(channels=(8,), factors=(1,), items=(1,), resnet_groups=1, positions=positions)
        out = jax.jit(lambda x, net=net: net.init_with_output(jax.random.key(0), x, time=jnp.zeros(1))[0])(x)
        assert out.shape == x.shape
        assert np.allclose(out[:, 15], out[:, 16], atol=1e-5) == (positions == 0)


def test_appended_channels_of_another_length_are_refused(unchecked):
    net = aj.nn.AppendChannels(aj.UNetV0(channels=(8,), factors=(1,), items=(1,), resnet_groups=4))
    with pytest.raises(aj.InputError, match=r"appended channels have shape \(3, 4, 5\)"):
        net.init(jax.random.key(0), X, T, append_channels=jnp.zeros((3, 4, 5)))


def test_the_mean_of_the_embedding_joins_the_features_and_follows_the_mask():
    net = aj.UNetV0(
        channels=(8,), factors=(1,), items=(1,), resnet_groups=4, modulation_features=16,
        embedding_features=6, use_embedding_cfg=True, embedding_max_length=5, use_embedding_features=True,
    )  # fmt: skip
    variables = jax.jit(net.init)(jax.random.key(2), X, T, embedding=EMBEDDING)
    apply = jax.jit(net.apply)
    out = apply(variables, X, T, embedding=EMBEDDING)
    # Without cross-attention, only the mean of the tokens matters, not their order.
    np.testing.assert_allclose(apply(variables, X, T, embedding=EMBEDDING[:, ::-1]), out, atol=1e-5)
    assert not np.allclose(apply(variables, X, T, embedding=2 * EMBEDDING), out, atol=1e-3)
    masked = [apply(variables, X, T, embedding=e, embedding_mask=jnp.ones(3, bool)) for e in (EMBEDDING, -EMBEDDING)]
    np.testing.assert_array_equal(*masked)
