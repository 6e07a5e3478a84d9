import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj


def reference(params, x, source, heads, linear):
    """The equations, head by head in numpy."""

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
def test_attention_equals_its_equations(cross, linear):
    x = jax.random.normal(jax.random.key(0), (1, 7, 6))
    embedding = jax.random.normal(jax.random.key(1), (1, 5, 10))
    module = aj.Attention(head_features=4, num_heads=3, cross=cross, linear=linear)
    context = aj.Context(embedding=embedding)
    variables = module.init(jax.random.key(2), x, context)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = reference(params, np.asarray(x[0]), np.asarray(embedding[0] if cross else x[0]), 3, linear)
    np.testing.assert_allclose(module.apply(variables, x, context)[0], expected, rtol=1e-4, atol=1e-5)


def test_implementations_agree():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6))
    plain, xla = (aj.Attention(head_features=4, num_heads=3, implementation=name) for name in (None, "xla"))
    variables = plain.init(jax.random.key(1), x)
    np.testing.assert_allclose(plain.apply(variables, x), xla.apply(variables, x), atol=1e-5)


def test_positions_of_two_dimensions_are_one_sequence():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    module = aj.Attention(head_features=4, num_heads=2)
    variables = module.init(jax.random.key(1), x)
    flat = module.apply(variables, x.reshape(2, 12, 6))
    np.testing.assert_allclose(module.apply(variables, x), flat.reshape(x.shape), rtol=1e-6, atol=1e-6)


def test_cross_attention_without_an_embedding_says_so():
    with pytest.raises(aj.InputError, match="needs an embedding"):
        aj.CrossAttention(head_features=4, num_heads=2).init(jax.random.key(0), jnp.zeros((1, 4, 8)), aj.Context())
