"""The full-size models have as many parameters as the originals. No arrays are allocated."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from archijax.configs import example_batch
from train.__main__ import load_config

CONFIGS = Path(__file__).parent.parent / "configs"
# In millions: the parameters of the net, and of the whole model with text encoder and autoencoder.
SIZES = {
    "long": (562.6, 857),
    "crisp": (300.4, 410),
    "upsampler": (238.4, 238.4),
    "vocoder": (175.4, 175.5),
    "diffusion_autoencoder": (160.7, 184.9),
    "unconditional": (173.2, 173.2),
    "autoencoder": (50.5, 50.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_full_sizes(name, unchecked):
    config = load_config(CONFIGS / f"{name}.py").model
    model, key = config.build(), jax.eval_shape(lambda: jax.random.key(0))
    batch = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in example_batch(config).items()}
    variables = jax.eval_shape(model.init, key, batch)

    def millions(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6

    net, whole = SIZES[name]
    assert millions(variables["params"]["net"]) == pytest.approx(net, rel=0.01)
    assert millions(variables) == pytest.approx(whole, rel=0.01)
    loss, _ = jax.eval_shape(model.loss, variables, key, batch)
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    if name in ("diffusion_autoencoder", "long"):
        assert (model.downsample_factor, model.latent_channels) == (1024, 32)
    if name == "diffusion_autoencoder":
        assert model.inject_depth == 4
