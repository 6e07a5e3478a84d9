"""The named models at full size have the parameters that were counted on the originals; nothing is allocated."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from nets import README_NET

import archijax as aj
from archijax.config import CoderConfig, DiffusionAEConfig, EncoderConfig, UpsamplerConfig, VocoderConfig

README = aj.UNetConfig(**README_NET, attention_heads=12)
NAMED = {
    "upsampler": (UpsamplerConfig(README, factor=16), 238.4e6),
    "vocoder": (VocoderConfig(dataclasses.replace(README, attentions=())), 175.5e6),
    "autoencoder": (
        DiffusionAEConfig(
            unet=aj.UNetConfig(
                channels=(256, 512, 512, 512, 1024, 1024, 1024),
                factors=(1, 2, 2, 2, 2, 2, 2),
                items=(1, 2, 2, 2, 2, 2, 2),
            ),
            transform=aj.LearnedTransformConfig(),
            encoder=EncoderConfig(CoderConfig(channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,))),
        ),
        184.9e6,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_full_sizes(name):
    config, wanted = NAMED[name]
    model = config.build()
    batch = {"audio": jnp.zeros((1, config.length, config.channels))}
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == pytest.approx(wanted, rel=0.01)
    jax.eval_shape(model.loss, variables, jax.eval_shape(lambda: jax.random.key(0)), batch)
    if name == "autoencoder":
        latent, _ = jax.eval_shape(model.encode, variables, batch["audio"])
        assert latent.shape == (1, config.length // 1024, 32)
        assert model.inject_depth == 4
