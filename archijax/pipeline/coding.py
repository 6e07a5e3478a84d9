"""Encoding and decoding of sounds of any length by parts as long as the sounds of the training.

Sounds are [time, channels] at the model's rate and channels, and as loud as those of the training; frames are what
:class:`archijax.contract.Codec` says.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from archijax.contract import Batch, Codec, DiffusionDecoder, Variables
from archijax.errors import InputError
from archijax.keys import CODING, stream
from archijax.pipeline.driver import Inputs, Program, Progress, run
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.parts import Parts, noise
from archijax.pipeline.settings import SampleSettings

DETERMINISTIC = ("ddim", "euler", "heun", "dpm++")


def encoder(loaded: Loaded, batch_size: int = 8) -> Parts:
    """From sounds to frames."""
    frame = loaded.model.downsample_factor

    def make(sounds: np.ndarray, starts: np.ndarray, progress: Progress) -> jax.Array:
        frames = _encode(loaded.model, loaded.on_device, sounds)
        progress(1)
        return frames

    return Parts(make, loaded.config.length // frame, rows_in=frame, batch_size=batch_size, fading=False)


def decoder(loaded: Loaded, settings: SampleSettings, prompt: str = "", batch_size: int = 8, item: int = 0) -> Parts:
    """From frames to sounds.

    Args:
        settings: of the sampling, for a model that decodes by diffusion; of them count num_steps, sampler,
            timestep_spacing, guidance_scale, clamp, threshold and seed. Parts agree where they overlap because they
            start from the same noise; so the sampler must draw none.
        prompt: what it should sound like, for a model that reads text.
        item: different ones start from different noise.

    Raises:
        InputError: a sampler that draws noise, a prompt to a model without text, or guidance to one without it.
    """
    settings, model, factor = loaded.resolved(settings), loaded.model, loaded.model.downsample_factor
    (prompt,) = loaded.checked([prompt])
    # Noise of its own, apart from that which the same seed makes latents of, and upsamplers of other rates start from.
    key = stream(jax.random.key(settings.seed), CODING)
    key = jax.random.fold_in(jax.random.fold_in(key, loaded.config.sample_rate), item)
    # A mel spectrogram may be of any number of channels, which then start from the same noise.
    channels = 1 if model.frames == "mel" else loaded.config.channels
    by_diffusion = isinstance(model, DiffusionDecoder)
    if by_diffusion:
        sample = _sampling(loaded, settings, prompt)

    def make(frames: np.ndarray, starts: np.ndarray, progress: Progress) -> jax.Array:
        fresh = noise(key, starts * factor, frames.shape[1] * factor, channels)
        if by_diffusion:
            return sample(frames, fresh, progress)
        sounds = _decode(model, loaded.on_device, frames, fresh)
        progress(1)
        return sounds

    # A sound ends in silence; of spectra and latents nobody knows what silence is.
    return Parts(
        make, loaded.config.length // factor, rows_out=factor, batch_size=batch_size,
        edge=model.frames != "sound", steps=settings.num_steps if by_diffusion else 1,
    )  # fmt: skip


def _sampling(loaded: Loaded, settings: SampleSettings, prompt: str):
    """What makes sounds of frames and noise by diffusion: (frames, noise, progress) -> sounds."""
    if settings.sampler not in DETERMINISTIC or settings.eta:
        raise InputError(
            f"The sampler {settings.sampler} with eta {settings.eta:g} draws noise at every step, by which the parts "
            f"of a long sound would differ where they meet: take one of {', '.join(DETERMINISTIC)}, without eta."
        )
    model, variables, inner = loaded.model, loaded.on_device, loaded.model.model
    scale = settings.scale(loaded.guidable)
    # With no prompt both halves of the guidance would be the same.
    scale = None if scale is None or not prompt else np.float32(scale)
    program = Program(inner, settings.compiled)
    timesteps = inner.process.timesteps(settings.num_steps, settings.timestep_spacing)

    def sample(frames: np.ndarray, fresh: jax.Array, progress: Progress) -> jax.Array:
        batch = loaded.tokens([prompt] * len(frames))
        if loaded.guidable and loaded.tokenizer is not None:
            batch["embedding_mask"] = np.full(len(frames), not prompt)
        fresh, conditioning = _prepare(model, variables, frames, fresh, batch)
        x = run(program, variables, Inputs(fresh, conditioning, scale=scale), timesteps, progress)
        return _finish(model, x, frames)

    return sample


@partial(jax.jit, static_argnums=0)
def _encode(model: Codec, variables: Variables, sounds: jax.Array) -> jax.Array:
    return model.encode(variables, sounds)[0]


@partial(jax.jit, static_argnums=0)
def _decode(model: Codec, variables: Variables, frames: jax.Array, fresh: jax.Array) -> jax.Array:
    return model.decode(variables, frames, fresh)


@partial(jax.jit, static_argnums=0)
def _prepare(model: DiffusionDecoder, variables: Variables, frames: jax.Array, fresh: jax.Array, batch: Batch):
    return model.prepare(variables, frames, fresh, batch)


@partial(jax.jit, static_argnums=0)
def _finish(model: DiffusionDecoder, x: jax.Array, frames: jax.Array) -> jax.Array:
    return model.finish(x, frames)
