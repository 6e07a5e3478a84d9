"""Contains functions that decode frames to sound by diffusion, and reconstruct sound with any codec."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.contract import Batch, Codec, DiffusionDecoder, Variables
from archijax.keys import per_item


def decode_by_diffusion(
    decoder: DiffusionDecoder,
    variables: Variables,
    frames: Float[Array | np.ndarray, "b frames *frame"],
    noise: Float[Array | np.ndarray, "b time c"] | None = None,
    *,
    channels: int,
    num_steps: int = 50,
    batch: Batch | None = None,
    keys: Key[Array, " ..."] | None = None,
    **settings: Any,
) -> Float[Array, "b samples c"]:
    """Decodes frames to sounds by diffusion.

    Args:
        decoder: a codec that decodes by diffusion, such as a :class:`archijax.DiffusionVocoder`.
        variables: the variables of the decoder.
        frames: the first result of the decoder's ``encode(variables, audio)``.
        noise: the standard normal noise [b, frames * downsample_factor, c] from which diffusion starts, or None to draw
            the noise from the keys.
        channels: the number of channels of the noise, if the noise is drawn.
        num_steps: the number of denoising steps.
        batch: other conditioning of the diffusion model, by name, such as "tokens" and "token_mask".
        keys: one key per item of the batch [b], a single key, or None for the same key at every call.
        settings: other arguments of :meth:`archijax.DiffusionModel.sample`.

    Returns:
        Sounds [b, frames * downsample_factor, c].
    """
    keys = per_item(jax.random.key(0) if keys is None else keys, len(frames))
    if noise is None:
        shape = (frames.shape[1] * decoder.downsample_factor, channels)
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    noise, conditioning = decoder.prepare(variables, frames, noise, batch or {})
    # The decoder may turn one sound into several items. All of them have the same key.
    keys = jnp.repeat(keys, len(noise) // len(frames))
    x = decoder.model.sample(
        variables, keys, shape=noise.shape, noise=noise, num_steps=num_steps, **conditioning, **settings
    )
    return decoder.finish(variables, x, frames)


def reconstruct(
    codec: Codec, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], **settings: Any
) -> Float[Array, "b time channels"]:
    """Encodes sounds to frames, and decodes these frames. Returns sounds with as many samples as ``audio``.

    Args:
        codec: a model with encode and decode, such as ``archijax.configs.AutoEncoderConfig(...).build()``.
        variables: the variables of the codec, such as the result of ``codec.init(key, {"audio": audio})``.
        audio: the sounds. ``codec.downsample_factor`` must divide time, unless the codec is an
            :class:`archijax.AutoEncoder`.
        settings: other arguments of ``codec.decode``, such as ``num_steps=50`` if the codec decodes by diffusion.
    """
    frames, _ = codec.encode(variables, audio)
    return codec.decode(variables, frames, **settings)[:, : audio.shape[1]]
