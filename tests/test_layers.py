import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import archijax as aj
from archijax.nn import arrays, linear, norms


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unfold_inverts_fold_and_fold_gathers_neighbours(dims):
    x = jax.random.normal(jax.random.key(0), (2, *(6,) * dims, 3))
    folded = linear.fold(x, 2)
    assert folded.shape == (2, *(3,) * dims, 3 * 2**dims)
    np.testing.assert_array_equal(linear.unfold(folded, 2), x)
    corner = np.asarray(x)[(0, *(slice(0, 2),) * dims)].reshape(-1)
    np.testing.assert_array_equal(folded[(0, *(0,) * dims)], corner)


@pytest.mark.parametrize(("dims", "size", "stride"), [(1, 8, 4), (1, 6, 3), (2, 4, 2), (3, 2, 2)])
def test_strided_and_transposed_convolutions_equal_the_plain_ones(dims, size, stride):
    letters = "WHD"[:dims][::-1]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    x = jax.random.normal(jax.random.key(0), (2, *(4 * size,) * dims, 3))
    kernel = jax.random.normal(jax.random.key(1), (*(size,) * dims, 3, 5))
    plain = lax.conv_general_dilated(x, kernel, (stride,) * dims, "VALID", dimension_numbers=numbers)
    ours = jax.jit(linear.strided_conv, static_argnums=2)(x, kernel, stride)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)

    # A transposed convolution is the gradient of a convolution, with the roles of the channels exchanged.
    y, padding = plain[..., :3], (size - stride) // 2
    length = (y.shape[1] - 1) * stride + size - 2 * padding
    forward_kernel = jnp.swapaxes(kernel, -1, -2)

    def forward(z):
        z = linear.pad_positions(z, padding)
        return lax.conv_general_dilated(z, forward_kernel, (stride,) * dims, "VALID", dimension_numbers=numbers)

    z = jnp.zeros((2, *(length,) * dims, 5))
    expected = jax.jit(lambda y: jax.vjp(forward, z)[1](y)[0])(y)
    ours = jax.jit(linear.transposed_conv, static_argnums=(2, 3))(y, kernel, stride, padding)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [100, 512])
def test_spread_repeats_and_its_derivatives_are_those_of_a_broadcast(length):
    x = jax.random.normal(jax.random.key(0), (2, length, 3))
    v = jax.random.normal(jax.random.key(1), (2, 3))

    def plain(v):
        return jnp.broadcast_to(v[:, None], x.shape)

    def ours(v):
        return arrays.over_positions(v, x) * jnp.ones_like(x)

    np.testing.assert_array_equal(ours(v), plain(v))
    grads = (jax.jit(jax.grad(lambda v: jnp.sum(x * f(v) ** 2)))(v) for f in (ours, plain))  # noqa: B023
    np.testing.assert_allclose(*grads, rtol=1e-5)
    np.testing.assert_allclose(*(jax.jvp(f, (v,), (v,))[1] for f in (ours, plain)), rtol=1e-6)
    np.testing.assert_array_equal(jax.vmap(ours)(jnp.stack([v, 2 * v]))[1], 2 * plain(v))


def test_group_norm_normalises_each_group_of_each_item():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 10, 4, 8))
    variables = {"params": {"scale": jnp.arange(8.0), "bias": jnp.ones(8)}}
    ours = jax.jit(norms.GroupNorm(groups=2).apply)(variables, x)
    groups = np.asarray(x).reshape(2, 40, 2, 4)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    normalised = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(ours, normalised * np.arange(8.0) + 1, rtol=1e-4, atol=1e-4)
    with pytest.raises(aj.InputError, match="8 channels do not divide into 3 groups"):
        norms.GroupNorm(groups=3).apply(variables, x)


@pytest.mark.parametrize("norm", [lambda x: norms.GroupNorm(2).apply(NORM, x), lambda x: norms.normalize(x, 1e-5)])
@pytest.mark.parametrize("mean", [0.0, 20.0])
def test_norms_of_narrow_types_are_those_of_float32_with_their_derivatives(norm, mean):
    # Half precision has separate formulas for moments and derivatives.
    narrow = (mean + jax.random.normal(jax.random.key(0), (2, 50, 8))).astype(jnp.bfloat16)
    weight, tangent = (jax.random.normal(jax.random.key(i), narrow.shape).astype(jnp.bfloat16) for i in (1, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def all_of(dtype):
        x, v, w = (array.astype(dtype) for array in (narrow, tangent, weight))
        y, pullback = jax.vjp(norm, x)

        def gradient(x):
            return jax.grad(lambda x: jnp.sum(norm(x).astype(jnp.float32) * w.astype(jnp.float32)))(x)

        return y, pullback(w.astype(y.dtype))[0], jax.jvp(norm, (x,), (v,))[1], jax.jvp(gradient, (x,), (v,))[1]

    for ours, exact in zip(all_of(jnp.bfloat16), all_of(jnp.float32), strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=0.01, atol=0.03)


def test_an_adaptive_block_is_its_formula_and_needs_features():
    block, x = aj.nn.AdaptiveConvNeXt(expansion=2), jax.random.normal(jax.random.key(0), (2, 9, 4))
    features = jax.random.normal(jax.random.key(1), (2, 3))
    context = aj.nn.Context(features=features)
    variables = jax.jit(block.init)(jax.random.key(2), x, context)
    p = jax.tree.map(np.asarray, variables["params"])
    active = np.asarray(features) / (1 + np.exp(-np.asarray(features)))
    modulations = active @ p["to_modulations"]["kernel"] + p["to_modulations"]["bias"]
    scale, shift, gate = np.split(modulations[:, None], 3, axis=-1)
    padded = np.pad(x, ((0, 0), (3, 3), (0, 0)))
    y = sum(padded[:, i : i + 9] * p["depthwise"]["kernel"][i, 0] for i in range(7)) + p["depthwise"]["bias"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6) * (1 + scale) + shift
    y = jax.nn.gelu(y @ p["expand"]["kernel"] + p["expand"]["bias"])
    y = y @ p["contract"]["kernel"] + p["contract"]["bias"]
    np.testing.assert_allclose(block.apply(variables, x, context), x + (0.3 + gate) * y, rtol=1e-4, atol=1e-5)
    with pytest.raises(aj.InputError, match="modulation needs features"):
        block.apply(variables, x, aj.nn.Context())


def test_a_depthwise_convolution_equals_the_plain_one():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 12, 5)), jax.random.normal(jax.random.key(1), (7, 1, 5))
    numbers = ("NWC", "WIO", "NWC")
    plain = lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=numbers, feature_group_count=5)
    np.testing.assert_allclose(linear.conv(x, kernel, groups=5), plain, rtol=1e-5, atol=1e-5)


NORM = {"params": {"scale": jnp.linspace(0.5, 1.5, 8), "bias": jnp.arange(8.0) / 8}}


def test_silence_gives_finite_gradients():
    silence = jnp.zeros((1, 16, 8))
    for module in (aj.nn.ConvNeXtV2(), aj.nn.Resnet(groups=4), aj.nn.LinearAttention(head_features=4, num_heads=2)):
        variables = jax.jit(module.init)(jax.random.key(0), silence)

        def total(variables, x, module=module):
            return jnp.sum(jnp.square(module.apply(variables, x)))

        gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(variables, silence)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients)), type(module).__name__


def test_initial_weights_fill_the_range_of_pytorch_and_differ():
    module = linear.Conv(features=64, kernel_size=3)
    init = jax.jit(module.init)
    params = init(jax.random.key(0), jnp.zeros((1, 8, 32)))["params"]
    bound = (3 * 32) ** -0.5
    for leaf in params.values():
        assert 0.9 * bound < np.abs(leaf).max() <= bound
        assert abs(float(leaf.mean())) < 0.2 * bound
    assert len(np.unique(params["kernel"])) > 0.99 * params["kernel"].size
    other = init(jax.random.key(1), jnp.zeros((1, 8, 32)))["params"]
    assert not np.array_equal(other["kernel"], params["kernel"])


def test_kernels_that_cannot_be_centred_are_refused():
    x = jnp.zeros((1, 12, 4))
    with pytest.raises(aj.InputError, match="kernel size 4 is even"):
        linear.Conv(4, kernel_size=4).init(jax.random.key(0), x)
    with pytest.raises(aj.InputError, match=r"downsampling width 2 .* factor 3"):
        aj.nn.Downsample(width=2).init(jax.random.key(0), x, 4, 3)
    with pytest.raises(aj.InputError, match=r"upsampling width 2 .* factor 3"):
        aj.nn.UpsampleTranspose(width=2).init(jax.random.key(0), x, 4, 3)
