import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL, drawn

import archijax as aj

UNET = LATENT_MODEL.unet
PLAIN = dict(channels=(8,), factors=(1,), items=(1,), resnet_groups=4, modulation_features=16)
RNG = np.random.default_rng(0)
X, EXTRA, EMBEDDING = (jnp.float32(RNG.standard_normal(shape)) for shape in ((3, 8, 2), (3, 8, 5), (3, 4, 6)))
T = jnp.float32([0.1, 0.5, 0.9])


def made(net, *inputs, scale=0.3, **conditioning):
    """The compiled net and its variables."""
    return jax.jit(net.apply), drawn(lambda key: net.init(key, *inputs, **conditioning), scale=scale)


@pytest.fixture(scope="module")
def guided():
    net = aj.UNetV0(**vars(UNET), embedding_features=6, use_embedding_cfg=True, embedding_max_length=5)
    return made(net, X, T, embedding=EMBEDDING)


def test_guidance_in_one_batch_equals_two_calls_and_takes_a_scale_per_item(guided):
    apply, variables = guided
    conditional = apply(variables, X, T, embedding=EMBEDDING)
    masked = apply(variables, X, T, embedding=EMBEDDING, embedding_mask=np.ones(3, bool))
    assert not np.allclose(conditional, masked, atol=1e-3)
    both = apply(variables, X, T, embedding=EMBEDDING, embedding_scale=4.0)
    np.testing.assert_allclose(both, masked + (conditional - masked) * 4, rtol=1e-4, atol=1e-5)
    scales = np.float32([1.0, 0.0, 3.0])
    each = apply(variables, X, T, embedding=EMBEDDING, embedding_scale=scales)
    np.testing.assert_allclose(each, masked + (conditional - masked) * scales[:, None, None], rtol=1e-4, atol=1e-5)


def test_masking_replaces_only_the_items_it_names(guided):
    apply, variables = guided
    conditional = apply(variables, X, T, embedding=EMBEDDING)
    some = apply(variables, X, T, embedding=EMBEDDING, embedding_mask=np.array([False, True, False]))
    np.testing.assert_allclose(some[::2], conditional[::2], atol=1e-6)
    assert not np.allclose(some[1], conditional[1], atol=1e-3)


def test_embeddings_that_do_not_fit_are_refused(guided, unchecked):
    apply, variables = guided
    for shape in ((3, 6, 6), (3, 4, 7)):
        with pytest.raises(aj.InputError, match=f"{shape[1]} tokens of {shape[2]} features: at most 5 tokens of 6"):
            apply(variables, X, T, embedding=np.zeros(shape, np.float32))


def test_several_times_are_summed_and_features_added():
    apply, variables = made(aj.UNetV0(**PLAIN), X, T)
    twice = apply(variables, X, np.stack([T, T], axis=1))
    assert not np.allclose(twice, apply(variables, X, T))

    # Features that equal the time features have the same effect as a second time.
    @jax.jit
    def features(params):
        h = nn.gelu(aj.nn.NumberEmbedder(16).apply({"params": params["embedder"]}, T), approximate=False)
        for _ in range(2):
            h = nn.gelu(h @ params["layer"]["kernel"] + params["layer"]["bias"], approximate=False)
        return h

    more = apply(variables, X, T, features=features(variables["params"]))
    np.testing.assert_allclose(more, twice, rtol=1e-4, atol=1e-5)


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
    inputs = {"genre": jnp.int32([0, 1, 2]), "seconds": jnp.float32([1.0, 2.0, 30.0])}
    apply, variables = made(net, X, T, **inputs)
    out = apply(variables, X, T, **inputs)
    for name, other in (("genre", np.int32([0, 2, 2])), ("seconds", np.float32([1.0, 3.0, 30.0]))):
        changed = apply(variables, X, T, **{**inputs, name: other})
        moved = np.abs(changed - out).max((1, 2))
        assert moved[1] > 1e-4, name
        np.testing.assert_allclose(moved[::2], 0, atol=1e-6)


def test_appended_channels_reach_the_result_but_do_not_widen_it():
    net = aj.nn.AppendChannels(aj.LearnedTransform(aj.UNetV0(**PLAIN), 4, 4, 2))
    apply, variables = made(net, X, T, append_channels=EXTRA)
    out = apply(variables, X, T, append_channels=EXTRA)
    assert out.shape == X.shape
    assert not np.allclose(out, apply(variables, X, T, append_channels=2 * EXTRA))
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
    x, t = jnp.ones((1, 32, 2)), jnp.zeros(1)
    for positions in (0, 2):
        net = aj.UNetV0(**{**PLAIN, "resnet_groups": 1}, positions=positions)
        apply, variables = made(net, x, t)
        out = apply(variables, x, t)
        assert out.shape == x.shape
        assert np.allclose(out[:, 15], out[:, 16], atol=1e-5) == (positions == 0)


def test_appended_channels_of_another_length_are_refused(unchecked):
    net = aj.nn.AppendChannels(aj.UNetV0(**PLAIN))
    with pytest.raises(aj.InputError, match=r"appended channels have shape \(3, 4, 5\)"):
        made(net, X, T, append_channels=jnp.zeros((3, 4, 5)))


def test_the_mean_of_the_embedding_joins_the_features_and_follows_the_mask():
    net = aj.UNetV0(
        **PLAIN, embedding_features=6, use_embedding_cfg=True, embedding_max_length=5, use_embedding_features=True
    )
    apply, variables = made(net, X, T, embedding=EMBEDDING)
    out = apply(variables, X, T, embedding=EMBEDDING)
    # Without cross-attention, only the mean of the tokens matters, not their order.
    np.testing.assert_allclose(apply(variables, X, T, embedding=EMBEDDING[:, ::-1]), out, atol=1e-5)
    assert not np.allclose(apply(variables, X, T, embedding=2 * EMBEDDING), out, atol=1e-3)
    masked = [apply(variables, X, T, embedding=e, embedding_mask=np.ones(3, bool)) for e in (EMBEDDING, -EMBEDDING)]
    np.testing.assert_array_equal(*masked)
