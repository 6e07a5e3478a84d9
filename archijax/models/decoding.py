"""Sound of frames: what all codecs share, and decoding by diffusion."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from archijax.contract import Batch, Codec, DiffusionDecoder, Variables
from archijax.keys import per_item


def decode_by_diffusion(
    decoder: DiffusionDecoder,
    variables: Variables,
    frames: jax.Array,
    noise: jax.Array | None = None,
    *,
    channels: int,
    num_steps: int = 50,
    batch: Batch | None = None,
    keys: jax.Array | None = None,
    **settings: Any,
) -> jax.Array:
    """Sounds [b, time, channels] of frames, all steps in one function.

    Args:
        noise: [b, time, channels]; None draws it.
        channels: of the sound.
        batch: what else the diffusion model is conditioned on, such as tokens.
        keys: of noise, one per item [b], or a single key; by default always the same.
        settings: of :meth:`archijax.DiffusionModel.sample`.
    """
    keys = per_item(jax.random.key(0) if keys is None else keys, len(frames))
    if noise is None:
        shape = (frames.shape[1] * decoder.downsample_factor, channels)
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    noise, conditioning = decoder.prepare(variables, frames, noise, batch or {})
    # What a sampler draws is the same for all items that a sound has become.
    keys = jnp.repeat(keys, len(noise) // len(frames))
    x = decoder.model.sample(
        variables, keys, shape=noise.shape, noise=noise, num_steps=num_steps, **conditioning, **settings
    )
    return decoder.finish(x, frames)


def reconstruct(codec: Codec, variables: Variables, audio: jax.Array, **settings: Any) -> jax.Array:
    """Sounds [b, time, c] encoded and decoded; settings are those of the codec's ``decode``."""
    frames, _ = codec.encode(variables, audio)
    return codec.decode(variables, frames, **settings)[:, : audio.shape[1]]
