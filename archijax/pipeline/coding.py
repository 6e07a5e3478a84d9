"""Encodes and decodes sounds of any length, in parts of the training length.

Sounds are arrays [time, channels]. They have the sample rate and the number of channels of the model, and the loudness
of the training sounds. Frames are latents, mel spectra, or samples at a lower sample rate (see
:class:`archijax.contract.Codec`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from archijax.contract import Batch, Codec, DiffusionDecoder, Variables
from archijax.errors import InputError
from archijax.keys import CODING, stream
from archijax.pipeline.driver import Inputs, Program, Progress, run
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.parts import Parts, noise
from archijax.pipeline.settings import SampleSettings

DETERMINISTIC = ("ddim", "euler", "heun", "dpm++")


def encoder(loaded: Loaded, batch_size: int = 8) -> Parts:
    """Returns a function from a sound [time, c] of any length to frames [n, ...], where n is
    ``ceil(time / downsample_factor)``.

    Args:
        loaded: a codec, such as ``archijax.from_pretrained("codec-16k")``.
        batch_size: the largest number of parts of the sound that are encoded at once.
    """
    frame = loaded.model.downsample_factor

    def make(
        sounds: Float[np.ndarray, "b time c"], starts: Int[np.ndarray, " b"], progress: Progress
    ) -> Float[Array, "b frames *frame"]:
        frames = _encode(loaded.model, loaded.on_device, sounds)
        progress(1)
        return frames

    return Parts(make, loaded.config.length // frame, rows_in=frame, batch_size=batch_size, fading=False)


def decoder(loaded: Loaded, settings: SampleSettings, prompt: str = "", batch_size: int = 8, item: int = 0) -> Parts:
    """Returns a function from any number of frames [n, ...] to a sound [n * downsample_factor, c].

    Args:
        loaded: a codec, such as ``archijax.from_pretrained("codec-16k")``.
        settings: the settings of sampling, for a model that decodes by diffusion. The settings num_steps, sampler,
            timestep_spacing, guidance_scale, clamp, threshold and seed have an effect. The sampler must be "ddim",
            "euler", "heun" or "dpm++", and eta must be 0. These samplers draw no noise, so overlapping parts agree.
        prompt: the prompt, for a model that reads text.
        batch_size: the largest number of parts that are decoded at once.
        item: the number of the sound. The number selects the noise from which decoding starts.

    Raises:
        InputError: the sampler draws noise, or the model does not support the prompt or the guidance scale.
    """
    settings, model, factor = loaded.resolved(settings), loaded.model, loaded.model.downsample_factor
    (prompt,) = loaded.checked([prompt])
    # This noise differs from the noise of latents with the same seed, and from the noise of upsamplers of other rates.
    key = stream(jax.random.key(settings.seed), CODING)
    key = jax.random.fold_in(jax.random.fold_in(key, loaded.config.sample_rate), item)
    # A mel spectrogram can have any number of channels. All channels start from the same noise.
    channels = 1 if model.frames == "mel" else loaded.config.channels
    by_diffusion = isinstance(model, DiffusionDecoder)
    if by_diffusion:
        sample = _sampling(loaded, settings, prompt)

    def make(
        frames: Float[np.ndarray, "b frames *frame"], starts: Int[np.ndarray, " b"], progress: Progress
    ) -> Float[Array, "b time c"]:
        fresh = noise(key, starts * factor, frames.shape[1] * factor, channels)
        if by_diffusion:
            return sample(frames, fresh, progress)
        sounds = _decode(model, loaded.on_device, frames, fresh)
        progress(1)
        return sounds

    # Sounds are padded with silence. Spectra and latents of silence are not known, so their last frame is repeated.
    return Parts(
        make, loaded.config.length // factor, rows_out=factor, batch_size=batch_size,
        edge=model.frames != "sound", steps=settings.num_steps if by_diffusion else 1,
    )  # fmt: skip


def _sampling(loaded: Loaded, settings: SampleSettings, prompt: str) -> Callable[..., Array]:
    """Returns a function (frames, noise, progress) -> sounds, which decodes by diffusion."""
    if settings.sampler not in DETERMINISTIC or settings.eta:
        raise InputError(
            f"The sampler {settings.sampler} with eta {settings.eta:g} draws noise at every step, so the parts of a "
            f"long sound would differ where they overlap: use one of {', '.join(DETERMINISTIC)}, without eta."
        )
    model, variables, inner = loaded.model, loaded.on_device, loaded.model.model
    scale = settings.scale(loaded.guidable)
    # Without a prompt, both predictions of guidance would be equal.
    scale = None if scale is None or not prompt else np.float32(scale)
    program = Program(inner, settings.compiled)
    timesteps = inner.process.timesteps(settings.num_steps, settings.timestep_spacing)

    def sample(
        frames: Float[np.ndarray, "b frames *frame"], fresh: Float[Array, "b time c"], progress: Progress
    ) -> Float[Array, "b time channels"]:
        batch = loaded.tokens([prompt] * len(frames))
        if loaded.guidable and loaded.tokenizer is not None:
            batch["embedding_mask"] = np.full(len(frames), not prompt)
        fresh, conditioning = _prepare(model, variables, frames, fresh, batch)
        x = run(program, variables, Inputs(fresh, conditioning, scale=scale), timesteps, progress)
        return _finish(model, variables, x, frames)

    return sample


@partial(jax.jit, static_argnums=0)
def _encode(model: Codec, variables: Variables, sounds: Array) -> Array:
    return model.encode(variables, sounds)[0]


@partial(jax.jit, static_argnums=0)
def _decode(model: Codec, variables: Variables, frames: Array, fresh: Array) -> Array:
    return model.decode(variables, frames, fresh)


@partial(jax.jit, static_argnums=0)
def _prepare(
    model: DiffusionDecoder, variables: Variables, frames: Array, fresh: Array, batch: Batch
) -> tuple[Array, dict[str, Any]]:
    return model.prepare(variables, frames, fresh, batch)


@partial(jax.jit, static_argnums=0)
def _finish(model: DiffusionDecoder, variables: Variables, x: Array, frames: Array) -> Array:
    return model.finish(variables, x, frames)
