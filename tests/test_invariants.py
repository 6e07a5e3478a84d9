import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.sampling import advance, begin
from archijax.sampling.invariants import hoisted


@jax.custom_jvp
def cube(x):
    return x**3


cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * primals[0] ** 2 * tangents[0]))


def make_step(weights, bias):
    """A step with nested calls: jit, rematerialization, a custom derivative."""

    @jax.jit
    def inner(x, matrix):
        return jnp.tanh(x @ matrix)

    def step(carry, t):
        matrix = cube(weights @ weights.T / 8)
        x = jax.checkpoint(lambda x: inner(x, matrix) + inner(x, weights) + bias)(carry["x"])
        return {"x": cube(x) * t, "count": carry["count"] + 1}, (x.sum(), 7.0)

    return step


@pytest.fixture
def given():
    weights = jax.random.normal(jax.random.key(0), (8, 8)) / 8
    carry = {"x": jax.random.normal(jax.random.key(1), (400, 8)), "count": jnp.int32(0)}
    return weights, jnp.arange(8.0), carry, jnp.linspace(1.0, 0.5, 3)


def loop(weights, bias, carry, times, change=lambda step, *_: step):
    step = make_step(weights, bias)
    return jax.lax.scan(change(step, carry, times[0]), carry, times)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_loop_gives_the_same(given, compiled):
    run = jax.jit(loop, static_argnums=4) if compiled else loop
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        run(*given, hoisted),
        run(*given, lambda step, *_: step),
    )


def test_so_are_its_gradients(given):
    def energy(weights, bias, carry, times, change):
        return jnp.square(loop(weights, bias, carry, times, change)[0]["x"]).sum()

    weights, bias, carry, times = given
    ours, theirs = (
        jax.grad(energy, (0, 1))(weights, bias, carry, times, change) for change in (hoisted, lambda step, *_: step)
    )
    # XLA's products on CPU have this precision only from JAX 0.12 on. There, ours agree with float64 to 1e-6.
    for a, b in zip(ours, theirs, strict=True):
        assert jnp.linalg.norm(a - b) <= 1e-3 * jnp.linalg.norm(b)


def body(function, *args, moving=0):
    """The equations of the loop in a function, and the shapes of its inputs without the last `moving` inputs."""
    (scan,) = [e for e in jax.make_jaxpr(function)(*args).eqns if e.primitive.name == "scan"]
    held = [v.aval.shape for v in scan.invars[: len(scan.invars) - moving]]
    return str(scan.params["jaxpr"]), held


@pytest.mark.canary
def test_products_of_what_is_fixed_leave_the_loop_and_broadcasts_stay(given):
    text, held = body(lambda *given: loop(*given, hoisted), *given, moving=3)  # x, count and the time
    assert text.count("f32[400,8] = dot_general") == 2
    assert "f32[8,8] = dot_general" not in text
    assert "f32[8,8] = dot_general" in body(loop, *given)[0]
    # The loop does not store the bias of all 400 rows.
    assert all(np.prod(shape) <= 64 for shape in held)


@pytest.mark.canary
def test_products_leave_the_loop_also_where_they_are_larger_than_what_they_are_made_of():
    text, weights, x = jnp.ones((64, 32, 4)), jnp.ones((4, 16)), jnp.ones((64, 32, 16))

    def steps(text, weights, x):
        def step(x, _):
            return x + text @ weights, None

        return jax.lax.scan(hoisted(step, x, None), x, length=2)[0]

    assert "dot_general" not in body(steps, text, weights, x)[0]
    np.testing.assert_array_equal(steps(text, weights, x), 9.0)


@pytest.mark.canary
def test_a_backward_pass_in_a_step_keeps_what_it_computes_again():
    def step(x, t):
        net = jax.checkpoint(lambda x: jnp.sin(jnp.sin(jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=2)[0])))
        return x - t * jax.grad(lambda x: net(x).sum())(x), None

    x, times = jnp.linspace(0.0, 1.0, 5), jnp.array([0.5, 0.25])
    ours = jax.lax.scan(hoisted(step, x, times[0]), x, times)[0]
    np.testing.assert_allclose(ours, jax.lax.scan(step, x, times)[0], rtol=1e-6)
    text = str(jax.make_jaxpr(hoisted(step, x, times[0]))(x, times[0]))
    assert "differentiated=True" in text


def test_a_loop_may_have_no_step():
    state = begin(jnp.ones((2, 4, 1)), 0.5)
    after, estimates = advance(lambda x, t: x, aj.v_diffusion(), state, jnp.array([0.5]))
    assert estimates.shape == (0, 2, 4, 1)
    np.testing.assert_array_equal(after.x, state.x)


def test_a_sampler_reads_its_text_and_casts_its_weights_once():
    net = aj.UNetV0(
        channels=(8, 16), factors=(1, 2), items=(1, 1), cross_attentions=(1, 1), attention_heads=2,
        attention_features=4, embedding_features=10, embedding_max_length=6, use_embedding_cfg=True, resnet_groups=4,
        modulation_features=16, dtype=jnp.bfloat16,
    )  # fmt: skip
    model = aj.DiffusionModel(net, cond_drop_prob=0.5)
    embedding = jax.random.normal(jax.random.key(0), (2, 6, 10))
    variables = model.init(jax.random.key(1), {"audio": jnp.zeros((1, 64, 2)), "embedding": embedding[:1]})

    def sample(variables, embedding):
        settings = {"shape": (2, 64, 2), "num_steps": 3, "guidance": 2.0}
        return model.sample(variables, jax.random.key(0), embedding=embedding, **settings)

    text, _ = body(sample, variables, embedding)
    # The loop has no array with the text features of the four items of guided sounds.
    assert "6,10]" not in text
    # The weights of convolutions have the type of the computation.
    assert text.count("conv_general_dilated") > 8
    assert not [line for line in text.splitlines() if "bf16[3," in line and "convert_element_type" in line]
