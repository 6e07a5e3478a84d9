import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from nets import README_NET, UNET, drawn

import archijax as aj


def test_the_readme_net_of_the_originals_has_its_count():
    net = aj.UNetV0(**README_NET, attention_heads=8)
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 2**18, 2)), jnp.zeros(1)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6 == pytest.approx(217.4, rel=0.001)


class Gain(nn.Module):
    """A custom item."""

    @nn.compact
    def __call__(self, x, context):
        return x * self.param("gain", nn.initializers.normal(1.0), (x.shape[-1],))


def test_items_of_ones_own_get_parameters_at_every_position():
    seen = []

    def look(x, context):
        seen.append((context.depth, x.shape[1]))
        return x

    net = aj.UNet(blocks=[aj.Block(4, 2, items=[Gain(), look] * 2), aj.Block(8, 3, items=[Gain()], items_up=[])])
    x = jnp.ones((1, 12, 2))
    params = jax.jit(net.init)(jax.random.key(0), x)["params"]
    assert seen == [(0, 6)] * 4
    gains = [
        params["down_0"]["items_0"]["gain"],
        params["down_0"]["items_2"]["gain"],
        params["up_0"]["items_0"]["gain"],
    ]
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(gains))
    assert "items_0" in params["down_1"]
    assert "items_0" not in params["up_1"]
    for length in (12, 18):
        shape = (1, length, 2)
        assert jax.eval_shape(net.apply, {"params": params}, jax.ShapeDtypeStruct(shape, x.dtype)).shape == shape


def test_items_that_are_alike_are_traced_once_in_a_call_and_keep_their_parameters():
    traced = []

    class Power(nn.Module):
        exponent: int

        @nn.compact
        def __call__(self, x, context):
            traced.append((self.exponent, x.shape))
            return self.param("gain", nn.initializers.normal(1.0), ()) * x**self.exponent

    net = aj.UNet(
        blocks=[aj.Block(2, 1, items=[Power(1), Power(2), Power(1)], items_up=[])],
        downsample=lambda x, channels, factor: x,
        upsample=lambda x, channels, factor: x,
        skip=lambda skip, x, context: x,
    )
    x = jnp.array([[[1.0, -2.0]]])
    params = net.init(jax.random.key(0), x)
    a, b, c = (params["params"]["down_0"][f"items_{i}"]["gain"] for i in range(3))
    assert len({float(gain) for gain in (a, b, c)}) == 3
    for _ in range(2):
        # Items are traced again in every call, because they can depend on more than settings and shapes.
        traced.clear()
        np.testing.assert_allclose(net.apply(params, x), c * b * (a * x) ** 2, rtol=1e-6)
        assert traced == [(1, x.shape), (2, x.shape)]


@pytest.mark.slow
def test_remat_changes_no_value_and_no_gradient(unchecked):
    nets = [aj.UNetV0(**vars(UNET), embedding_features=8, remat=remat) for remat in (False, True)]
    x, t = jax.random.normal(jax.random.key(0), (2, 8, 2)), jnp.array([0.2, 0.9])
    embedding = jax.random.normal(jax.random.key(1), (2, 3, 8))
    params = drawn(lambda key: nets[0].init(key, x, t, embedding=embedding))

    def gradients(net):
        def energy(params, x):
            return jnp.sum(net.apply(params, x, t, embedding=embedding) ** 2)

        return jax.jit(jax.grad(energy, argnums=(0, 1)))(params, x)

    for plain, remat in zip(*map(jax.tree.leaves, map(gradients, nets)), strict=True):
        np.testing.assert_allclose(plain, remat, rtol=1e-4, atol=1e-5 * float(jnp.abs(plain).max() + 1e-6))


def test_the_backward_pass_keeps_products_alone_and_with_remat_only_what_goes_into_blocks():
    settings = {"channels": (64, 64), "factors": (1, 2), "items": (2, 2), "modulation_features": 16}
    batch, length = 5, 1024
    x, t = jnp.zeros((batch, length, 2)), jnp.zeros(batch)

    def kept(remat):
        """The number of bytes that the backward pass gets, without the parameters."""
        net = aj.UNetV0(**settings, remat=remat)
        params = jax.eval_shape(net.init, jax.random.key(0), x, t)
        pull = jax.eval_shape(lambda params: jax.vjp(lambda params: net.apply(params, x, t), params)[1], params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((pull, params)) if batch in leaf.shape)

    array = batch * length * 64 * 4
    # Without rematerialization, the backward pass would get 113 such arrays.
    products, inputs = kept(False) / array, kept(True) / array
    assert products < 20
    assert inputs < 4


@pytest.mark.slow
def test_gradients_agree_with_finite_differences_in_float64(unchecked):
    with jax.enable_x64(True):
        dtype = jnp.float64
        net = aj.UNetV0(**vars(UNET), embedding_features=6, use_time_conditioning=False, dtype=dtype)
        rng = np.random.default_rng(0)
        normal = lambda *shape: rng.standard_normal(shape)  # noqa: E731
        x, inputs = normal(1, 8, 2), {"features": normal(1, 16), "embedding": normal(1, 3, 6)}
        shapes = jax.eval_shape(net.init, jax.random.key(0), x, **inputs)
        params = jax.tree.map(lambda leaf: 0.1 * normal(*leaf.shape), shapes)
        energy = jax.jit(lambda params, x: jnp.sum(net.apply(params, x, **inputs) ** 2))
        value_gradient = jax.device_get(jax.jit(jax.grad(energy, argnums=(0, 1)))(params, x))
        direction = jax.tree.map(lambda p: normal(*p.shape), (params, x))
        step = 1e-5
        moved = [jax.tree.map(lambda p, d, s=s: p + s * step * d, (params, x), direction) for s in (1, -1)]
        numeric = (energy(*moved[0]) - energy(*moved[1])) / (2 * step)
        exact = sum(np.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (value_gradient, direction)), strict=True))
        assert float(exact) == pytest.approx(float(numeric), rel=1e-6)
        # The input is also tested separately, because its share among the parameters would be too small.
        numeric = (energy(params, x + step * direction[1]) - energy(params, x - step * direction[1])) / (2 * step)
        assert float(np.sum(value_gradient[1] * direction[1])) == pytest.approx(float(numeric), rel=1e-6)


@pytest.mark.canary
def test_no_long_sum_of_a_bfloat16_net_is_in_bfloat16():
    # A bfloat16 sum stops growing after 256 equal terms. Some compilers sum in a wider type.
    net = aj.UNetV0(**vars(UNET), embedding_features=8, dtype=jnp.bfloat16)
    x, t, embedding = jnp.zeros((3, 8, 2)), jnp.zeros(3), jnp.zeros((3, 3, 8))
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), x, t, embedding=embedding))

    def energy(params):
        return jnp.sum(net.apply(params, x, t, embedding=embedding))

    def sums(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "reduce_sum":
                given = equation.invars[0].aval
                yield given.dtype, given.size / equation.outvars[0].aval.size
            for inner in jaxprs_in_params(equation.params):
                yield from sums(inner)

    found = list(sums(jax.make_jaxpr(jax.grad(energy))(params).jaxpr))
    assert any(count > 2 for _, count in found)
    # Only the gradient of repeating each position twice may sum two terms in bfloat16.
    assert all(dtype == jnp.float32 or count <= 2 for dtype, count in found)


def test_bfloat16_keeps_float32_parameters_and_stays_close():
    unet = {**vars(UNET), **{name: values[1:] for name, values in vars(UNET).items() if isinstance(values, tuple)}}
    net, half = (aj.UNetV0(**unet, embedding_features=8, dtype=d) for d in (jnp.float32, jnp.bfloat16))
    x, t = jax.random.normal(jax.random.key(0), (2, 8, 2)), jnp.float32([0.2, 0.9])
    inputs = {"embedding": jax.random.normal(jax.random.key(1), (2, 3, 8))}
    params = drawn(lambda key: half.init(key, x, t, **inputs))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    full, rough = (jax.device_get(jax.jit(each.apply)(params, x, t, **inputs)) for each in (net, half))
    assert rough.dtype == jnp.float32
    assert 0 < np.linalg.norm(full - rough) / np.linalg.norm(full) < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": (1,)}, "factors has 1 entries and channels has 2"),
        ({"channels": (8, 18)}, "channels 18 do not divide into resnet_groups 4"),
        ({"factors": (1, 0)}, r"factors is \(1, 0\)"),
        ({"attention_heads": None}, "needs attention_heads, but it is None"),
        ({"use_modulation": False}, "use_time_conditioning needs use_modulation"),
        ({"use_embedding_cfg": True}, "use_embedding_cfg needs embedding_max_length"),
        (
            {"use_embedding_cfg": True, "embedding_max_length": 4, "embedding_features": None, "cross_attentions": ()},
            "use_embedding_cfg needs embedding_features",
        ),
        ({"embedding_features": None}, "needs embedding_features"),
    ],
)
def test_settings_that_do_not_fit_are_named_when_the_net_is_built(changes, message):
    with pytest.raises(aj.InputError, match=message):
        aj.UNetV0(**{**vars(UNET), "embedding_features": 8, **changes})


def test_inputs_that_do_not_fit_are_named_before_compilation(unchecked):
    net = aj.UNetV0(**vars(UNET), embedding_features=8, context_channels=(0, 3))
    embedding, channels = jnp.zeros((2, 3, 8)), [None, jnp.zeros((2, 4, 3))]
    good = dict(x=jnp.zeros((2, 8, 2)), time=jnp.zeros(2), embedding=embedding, channels=channels)
    key = jax.random.key(0)
    jax.eval_shape(net.init, key, **good)
    for change, message in [
        ({"x": jnp.zeros((2, 7, 2))}, r"length 7 is not a multiple of 2 \(the product of the factors\): pad to 8"),
        ({"time": jnp.zeros(3)}, r"time of shape \[2\], one per item, but it has shape \(3,\)"),
        ({"time": None}, "but there is none"),
        ({"embedding": jnp.zeros((3, 3, 8))}, r"embedding have shape \(3, 3, 8\)"),
        ({"features": jnp.zeros((2, 5))}, r"features have shape \(2, 5\): \(2, 16\)"),
        ({"channels": []}, r"shape \(2, 4, 3\) are missing at depth 1"),
        ({"channels": [None, jnp.zeros((2, 8, 3))]}, r"depth 1 have shape \(2, 8, 3\): \(2, 4, 3\) is needed"),
    ]:
        with pytest.raises(aj.InputError, match=message):
            jax.eval_shape(net.init, key, **{**good, **change})
