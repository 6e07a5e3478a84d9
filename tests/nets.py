"""Tiny nets and models that several tests share."""

import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

import archijax as aj
from archijax.configs import example_batch
from archijax.convert.t5 import to_torch

UNET = aj.configs.UNetConfig(
    channels=(8, 16), factors=(1, 2), items=(1, 1), attentions=(0, 1), cross_attentions=(0, 1),
    attention_heads=2, attention_features=4, resnet_groups=4, modulation_features=16,
)  # fmt: skip


def drawn(init, *args, scale=0.1, seed=0):
    """Random arrays with the shapes of ``init(key, *args)``. `init` takes longer, and its arrays are often zero."""
    return _random(jax.eval_shape(lambda: init(jax.random.key(0), *args)), scale, seed)


def _random(shapes, scale=0.1, seed=0):
    draw = np.random.default_rng(seed).standard_normal

    def leaf(path, shape):
        # The moments of latents are sums of squares. Random numbers would be impossible.
        if jax.tree_util.DictKey("latents") in path:
            return np.zeros(shape.shape, shape.dtype)
        return (scale * draw(shape.shape)).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def drawn_with_state(init, batch):
    """Random parameters, and the true state of ``init(key, batch)``, which can have counts and codes."""
    state = jax.jit(lambda key, batch: init(key, batch)["state"])(jax.random.key(1), batch)
    return {**drawn(init, batch), "state": state}


@functools.cache
def shapes_of(config):
    """The shapes of the variables of the model of a config."""
    return jax.eval_shape(config.build().init, jax.random.key(0), example_batch(config))


def variables_of(config, seed=0):
    """Random variables of the model of a config."""
    return _random(shapes_of(config), seed=seed)


# The net in the README of the originals, without its number of heads.
README_NET = dict(
    channels=(8, 32, 64, 128, 256, 512, 512, 1024, 1024),
    factors=(1, 4, 4, 4, 2, 2, 2, 2, 2),
    items=(1, 2, 2, 2, 2, 2, 2, 4, 4),
    attentions=(0, 0, 0, 0, 0, 1, 1, 1, 1),
    attention_features=64,
)

TEXT_MODEL = aj.configs.DiffusionConfig(
    unet=UNET,
    sample_rate=8000,
    channels=2,
    length=64,
    transform=aj.configs.LearnedTransformConfig(num_filters=4, window_length=8, stride=4),
    text=aj.configs.TextConfig(max_length=48, features=8, num_layers=1, num_heads=2, cond_drop_prob=0.5),
)


def text_batch(count: int, length: int = 64) -> dict[str, jax.Array]:
    """A batch of different items for TEXT_MODEL."""
    tokens = jax.random.randint(jax.random.key(1), (count, 6), 3, 259)
    return {
        "audio": 0.3 * jax.random.normal(jax.random.key(0), (count, length, 2)),
        "tokens": tokens,
        "token_mask": jnp.arange(6) < 2 + jnp.arange(count)[:, None] % 4,
    }


# An autoencoder with 4 samples per frame, and a diffusion model of its latents.
AUTOENCODER = aj.configs.AutoEncoderConfig(
    coder=aj.configs.CoderConfig(
        channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(0,), patch_size=2, resnet_groups=4
    ),
    latent_channels=3,
    sample_rate=8000,
    channels=1,
    length=64,
)
LATENT_MODEL = aj.configs.LatentConfig(
    unet=aj.configs.UNetConfig(
        channels=(8,), factors=(1,), items=(1,), cross_attentions=(1,), attention_heads=2, attention_features=4,
        resnet_groups=4, modulation_features=16,
    ),
    sample_rate=8000,
    channels=1,
    length=64,
    text=aj.configs.TextConfig(max_length=24, features=8, num_layers=1, num_heads=2),
    autoencoder=AUTOENCODER,
)  # fmt: skip

# Models of Stable Audio's design.
OOBLECK = aj.configs.OobleckConfig(
    encoder_channels=8, decoder_channels=4, multipliers=(1, 2), strides=(2, 4), latent_channels=4,
    sample_rate=8000, length=256,
)  # fmt: skip
STABLE_AUDIO = aj.configs.StableAudioConfig(
    transformer=aj.configs.TransformerConfig(num_layers=1, num_heads=2, embedding_width=64, time_features=16),
    autoencoder=OOBLECK,
    text=aj.configs.TextConfig(max_length=5, features=8, num_layers=1, num_heads=2, cond_drop_prob=0.5),
    conditioning_features=16,
    numbers=aj.configs.seconds(32.0, 0.032),
    sample_rate=8000,
    length=256,
)


def killed_run(whole: Path, folder: Path, step: int) -> None:
    """Copies the folder of a run without its checkpoints after a step, like that of a run that was killed there."""
    shutil.copytree(whole, folder)
    for checkpoint in (folder / "checkpoints").iterdir():
        if checkpoint.name.isdigit() and int(checkpoint.name) > step:
            shutil.rmtree(checkpoint)


def write_t5(folder: Path, seed: int) -> None:
    """Writes the folder of a pretrained text encoder with random weights and 8 features, which reads bytes."""
    sizes = {"vocab_size": 384, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config, tokens = aj.nn.T5Config(**sizes), jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(aj.nn.T5Encoder(config).init, jax.random.key(0), tokens, tokens == 0)["params"]
    draw = np.random.default_rng(seed).standard_normal
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(sizes))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    params = jax.tree.map(lambda leaf: draw(leaf.shape).astype(np.float32), shapes)
    save_file(to_torch(params, config), folder / "model.safetensors")
