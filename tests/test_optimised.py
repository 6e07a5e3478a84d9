"""Other tests compile without XLA's optimizations, for speed. This test runs a tiny model with them."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import TEXT_MODEL, UNET, drawn, text_batch

from archijax.compiler import compiler_options

ROOT = Path(__file__).parent.parent
# The inner depth of the net of TEXT_MODEL, which has all kinds of layers.
INNER = {name: values[1:] for name, values in vars(UNET).items() if isinstance(values, tuple) and len(values) == 2}


def results() -> dict[str, np.ndarray]:
    """The loss of a model, the norm of its gradient, and a sound."""
    model, batch = dataclasses.replace(TEXT_MODEL, unet=dataclasses.replace(UNET, **INNER)).build(), text_batch(2)
    variables = drawn(model.init, batch)

    def loss(params):
        return model.loss({**variables, "params": params}, jax.random.key(1), batch)[0]

    value, grads = jax.jit(jax.value_and_grad(loss), compiler_options=compiler_options("cpu"))(variables["params"])
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grads)))
    prompts = {name: array for name, array in batch.items() if name != "audio"}
    sample = jax.jit(
        lambda v: model.sample(v, jax.random.key(2), shape=(2, 64, 2), num_steps=3, guidance=2.0, **prompts)
    )
    return {"loss": np.asarray(value), "norm": np.asarray(norm), "sound": np.asarray(sample(variables))}


@pytest.mark.slow
def test_a_model_computes_the_same_with_xlas_default_optimisations(tmp_path, unchecked):
    path = tmp_path / "results.npz"
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    subprocess.run([sys.executable, __file__, str(path)], env=environment, check=True, timeout=300)
    with np.load(path) as optimised:
        for name, array in results().items():
            np.testing.assert_allclose(optimised[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())
