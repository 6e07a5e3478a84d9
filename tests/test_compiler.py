import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archijax.compiler import compiler_options, row_major, written


@pytest.mark.canary
def test_what_is_computed_again_is_not_kept():
    def layer(matrix, x):
        return jnp.sin(jnp.tanh(jnp.sin(x) @ matrix) * 2)

    def memory(layer, options):
        def energy(matrices, x):
            for matrix in matrices:
                x = layer(matrix, x)
            return x.sum()

        matrices, x = jax.ShapeDtypeStruct((8, 16, 16), jnp.float32), jax.ShapeDtypeStruct((1024, 16), jnp.float32)
        compiled = jax.jit(jax.grad(energy), compiler_options=options).lower(matrices, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Only this test detects a new name of the pass in XLA. From JAX 0.12 on, {} needs no more memory.
    assert memory(jax.checkpoint(layer), compiler_options("cpu")) < 0.7 * memory(layer, {})
    assert compiler_options("gpu") == compiler_options("tpu") == {}


@pytest.mark.canary
def test_sums_are_not_split():
    def text(options):
        return jax.jit(lambda x: x @ x, compiler_options=options).lower(jnp.ones(1024)).compile().as_text()

    # If this fails, XLA no longer has the pass with this name, and the option can be removed.
    assert "reduce-window" in text({})
    assert "reduce-window" not in text(compiler_options("cpu"))


def test_long_sums_are_exact_all_the_same():
    x = jax.random.normal(jax.random.key(0), (1, 2**18, 3)) + 10

    def sums(x):
        # The sums of a norm and of a bias's gradient.
        return x.mean(1), jax.grad(lambda bias: jnp.sum((x * x + bias) * x))(jnp.ones(3))

    mean, gradient = jax.jit(sums, compiler_options=compiler_options("cpu"))(x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(gradient, exact.sum((0, 1)), rtol=1e-6)


@pytest.mark.canary
def test_only_cpu_programs_write_down_what_is_read_twice():
    traced = jax.jit(lambda x: written({"x": x + 1})["x"] * 2).trace(jnp.ones(3))
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name: "optimization_barrier" in text for name, text in texts.items()} == {
        "cpu": True,
        "cuda": False,
        "tpu": False,
    }
    np.testing.assert_array_equal(jax.jit(lambda x: written(x + 1))(jnp.ones(3)), 2.0)


@pytest.mark.canary
def test_only_programs_for_nvidia_are_told_where_the_last_axis_lies():
    traced = jax.jit(lambda x: row_major(x.transpose(2, 1, 0)) * 2).trace(jnp.ones((3, 4, 5)))
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name: "LayoutConstraint" in text for name, text in texts.items()} == {
        "cpu": False,
        "cuda": True,
        "tpu": False,
    }
    # The last axis is contiguous in memory.
    assert "dense<[2, 1, 0]>" in texts["cuda"]
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(jax.jit(row_major)(x), x)
