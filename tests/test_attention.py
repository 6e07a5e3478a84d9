from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.nn import attention


def reference(params, x, source, heads, linear):
    """The equations in numpy, head by head."""

    def norm(values, p):
        mean, var = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
        return (values - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def softmax(values, axis):
        e = np.exp(values - values.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    q = norm(x, params["norm"]) @ params["to_q"]["kernel"]
    k, v = np.split(norm(source, params["norm_context"]) @ params["to_kv"]["kernel"], 2, axis=-1)
    outs = []
    for qh, kh, vh in zip(*(np.split(t, heads, axis=-1) for t in (q, k, v)), strict=True):
        scale = qh.shape[-1] ** -0.5
        if linear:
            outs.append(softmax(qh, -1) * scale @ (softmax(kh, 0).T @ vh))
        else:
            outs.append(softmax(qh @ kh.T * scale, -1) @ vh)
    return x + np.concatenate(outs, -1) @ params["to_out"]["kernel"]


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("linear", [False, True])
# With length 64, cross-attention multiplies its projections into keys and values.
@pytest.mark.parametrize("length", [7, 64])
def test_attention_equals_its_equations(cross, linear, length):
    x = jax.random.normal(jax.random.key(0), (1, length, 6))
    embedding = jax.random.normal(jax.random.key(1), (1, 5, 10))
    module = aj.nn.Attention(head_features=4, num_heads=3, cross=cross, linear=linear)
    context = aj.nn.Context(embedding=embedding)
    variables = jax.jit(module.init)(jax.random.key(2), x, context)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = reference(params, np.asarray(x[0]), np.asarray(embedding[0] if cross else x[0]), 3, linear)
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x, context)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cross", [False, True])
def test_implementations_agree(cross):
    x = jax.random.normal(jax.random.key(0), (2, 64, 6))
    context = aj.nn.Context(embedding=jax.random.normal(jax.random.key(1), (2, 5, 10)))
    fastest, xla = (aj.nn.Attention(4, 3, cross=cross, implementation=name) for name in (None, "xla"))
    variables = jax.jit(fastest.init)(jax.random.key(2), x, context)

    def energy(module, variables, x):
        return jnp.square(module.apply(variables, x, context)).sum()

    gradients = jax.jit(jax.value_and_grad(energy, (1, 2)), static_argnums=0)
    ours, theirs = (gradients(module, variables, x) for module in (fastest, xla))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.canary
@pytest.mark.parametrize(("length", "tokens", "share"), [(1024, 16, 0.8), (8, 16, 1.01), (64, 512, 1.01)])
def test_projections_are_absorbed_where_that_is_less_work(length, tokens, share):
    def operations(implementation):
        x, context = jnp.zeros((1, length, 32)), aj.nn.Context(embedding=jnp.zeros((1, tokens, 8)))
        module = aj.nn.CrossAttention(head_features=32, num_heads=2, implementation=implementation)
        variables = jax.eval_shape(module.init, jax.random.key(0), x, context)
        apply = jax.jit(lambda variables: module.apply(variables, x, context))
        return apply.lower(variables).cost_analysis()["flops"]

    assert operations(None) <= share * operations("xla")


def test_positions_of_two_dimensions_are_one_sequence():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    module = aj.nn.Attention(head_features=4, num_heads=2)
    variables, apply = jax.jit(module.init)(jax.random.key(1), x), jax.jit(module.apply)
    flat = apply(variables, x.reshape(2, 12, 6))
    np.testing.assert_allclose(apply(variables, x), flat.reshape(x.shape), rtol=1e-6, atol=1e-6)


def test_cross_attention_without_an_embedding_says_so():
    with pytest.raises(aj.InputError, match="needs an embedding"):
        aj.nn.CrossAttention(head_features=4, num_heads=2).init(
            jax.random.key(0), jnp.zeros((1, 4, 8)), aj.nn.Context()
        )


def test_cudnn_is_taken_where_it_can_be_and_never_in_portable_programs(monkeypatch):
    def taken(kind="NVIDIA H200", capability="9.0", dtype=jnp.bfloat16, features=64):
        device = SimpleNamespace(device_kind=kind, compute_capability=capability)
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        array = jax.ShapeDtypeStruct((2, 7, 3, features), dtype)
        return attention._cudnn_takes(array, array)

    assert taken()
    assert not taken(kind="cpu")
    assert not taken(kind="AMD Instinct", capability="gfx942")
    assert not taken(capability="7.5")
    assert not taken(dtype=jnp.float32)
    assert not taken(features=20)
    assert not taken(features=192)
    with attention.portable():
        assert not taken()
    assert taken()
