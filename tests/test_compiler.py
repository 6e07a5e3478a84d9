import jax
import jax.numpy as jnp

from archijax.compiler import compiler_options


def test_what_is_computed_again_is_not_kept():
    def energy(matrices, x):
        for matrix in matrices:
            x = jax.checkpoint(lambda matrix, x: jnp.sin(jnp.tanh(jnp.sin(x) @ matrix) * 2))(matrix, x)
        return x.sum()

    def memory(options):
        matrices, x = jax.ShapeDtypeStruct((8, 16, 16), jnp.float32), jax.ShapeDtypeStruct((1024, 16), jnp.float32)
        compiled = jax.jit(jax.grad(energy), compiler_options=options).lower(matrices, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Should XLA give the pass another name, nothing but this says so.
    assert memory(compiler_options("cpu")) < 0.6 * memory({})
    assert compiler_options("gpu") == compiler_options("tpu") == {}


def test_sums_are_not_split():
    def text(options):
        return jax.jit(lambda x: x @ x, compiler_options=options).lower(jnp.ones(1024)).compile().as_text()

    assert "reduce-window" in text({})
    assert "reduce-window" not in text(compiler_options("cpu"))
