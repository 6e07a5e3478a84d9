"""What models hear of a sound, and sound of what they hear: the two halves of every model but the generators.

    heard = analysis(loaded)(sound)                                   # a low-rate sound, mel, or latent
    sound = synthesis(loaded, Settings(num_steps=50))(heard)

An upsampler hears the sound at its low rate [n, channels], a vocoder the mel spectrogram [frames, mels, channels], an
autoencoder its latent [frames, latent_channels]. Sounds are [time, channels] at the model's rate and channels, and as
loud as those of the training.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio import files
from archijax.audio.griffin_lim import griffin_lim
from archijax.audio.resample import resample
from archijax.errors import InputError
from archijax.models import DiffusionAE, DiffusionUpsampler, DiffusionVocoder, MagnitudeAutoEncoder
from archijax.sampling import State, begin
from sample.generation import stepped
from sample.model import Loaded
from sample.parts import Parts, noise
from sample.settings import Settings
from sample.work import Heard

CODERS = ("autoencoder", "magnitude_autoencoder", "diffusion_autoencoder")
KINDS = (*CODERS, "upsampler", "vocoder")
DETERMINISTIC = ("ddim", "euler", "heun", "dpm++")


def samples_per_frame(model: Any) -> int:
    """Samples of sound for each row of what a model hears."""
    if isinstance(model, DiffusionUpsampler):
        return model.factor
    if isinstance(model, DiffusionVocoder):
        return model.mel.hop_length
    return model.downsample_factor


def hear(loaded: Loaded, path: Path) -> Heard:
    """A sound file as a model hears it: at its rate, channels (a vocoder takes any) and loudness."""
    channels = None if isinstance(loaded.model, DiffusionVocoder) else loaded.config.channels
    sound = files.read(path, sample_rate=loaded.config.sample_rate, channels=channels)
    gain = loaded.gain(sound)
    return Heard(sound * gain, gain, len(sound), sound)


def analysis(loaded: Loaded, batch_size: int = 8) -> Parts:
    """From sounds to what the model hears of them, by parts of the training's length."""
    model, variables, frame = loaded.model, loaded.variables, samples_per_frame(loaded.model)

    def make(pieces: np.ndarray, starts: np.ndarray, progress: Callable[[], Any]) -> jax.Array:
        heard = _heard(model, variables, pieces)
        progress()
        return heard

    return Parts(make, loaded.config.length // frame, given=frame, batch_size=batch_size, fading=False)


@partial(jax.jit, static_argnums=0)
def _heard(model: Any, variables: dict[str, Any], sounds: jax.Array) -> jax.Array:
    if isinstance(model, DiffusionUpsampler):
        return resample(sounds, model.factor, 1, lowpass_filter_width=model.lowpass_filter_width)
    if isinstance(model, DiffusionVocoder):
        return model.mel.encode(sounds)
    return model.encode(variables, sounds)[0]


def synthesis(loaded: Loaded, settings: Settings, prompt: str = "", batch_size: int = 8, item: int = 0) -> Parts:
    """From what the model hears to sounds, by parts of the training's length.

    Args:
        settings: of the sampling, for a model that diffuses; of them count num_steps, sampler, eta, timestep_spacing, guidance_scale,
            clamp, threshold and seed. Parts agree where they overlap because they start from the same noise; so the
            sampler must draw none.
        prompt: what it should sound like, for a model that reads text.
        item: different ones start from different noise.

    Raises:
        InputError: a sampler that draws noise, a prompt to a model without text, or guidance to one without it.
    """
    model, frame = loaded.model, samples_per_frame(loaded.model)
    if loaded.tokenizer is None and prompt:
        raise InputError(f"The prompt {prompt!r} means nothing to this model: it was trained without text.")
    # Noise of its own, apart from that which the same seed makes latents of, and upsamplers of other rates start from.
    key = jax.random.fold_in(jax.random.key(settings.seed), 2**32 - 1)
    key = jax.random.fold_in(jax.random.fold_in(key, loaded.config.sample_rate), item)
    if isinstance(model, DiffusionUpsampler | DiffusionVocoder | DiffusionAE):
        make, steps = _diffusing(loaded, settings, key, prompt), settings.num_steps
    else:
        make, steps = partial(_decoding, loaded, key), 1
    # A sound ends in silence; of spectra and latents nobody knows what silence is.
    edge = not isinstance(model, DiffusionUpsampler)
    return Parts(make, loaded.config.length // frame, made=frame, batch_size=batch_size, edge=edge, steps=steps)


def _decoding(
    loaded: Loaded, key: jax.Array, latents: np.ndarray, starts: np.ndarray, progress: Callable[[], Any]
) -> jax.Array:
    sounds = _decoded(loaded.model, loaded.variables, key, latents, starts)
    progress()
    return sounds


@partial(jax.jit, static_argnums=0)
def _decoded(model: Any, variables: dict[str, Any], key: jax.Array, latents: jax.Array, starts: jax.Array) -> jax.Array:
    decoded = model.decode(variables, latents)
    if not isinstance(model, MagnitudeAutoEncoder):
        return decoded
    stft, (_, frames, *shape) = model.net.stft, decoded.shape
    phases = noise(key, starts * (frames // latents.shape[1]), frames, tuple(shape), _phases)
    return griffin_lim(decoded, phases, stft, latents.shape[1] * model.downsample_factor, model.num_steps)


_phases = partial(jax.random.uniform, minval=-np.pi, maxval=np.pi)


def _diffusing(loaded: Loaded, settings: Settings, key: jax.Array, prompt: str) -> Callable:
    """What makes parts by diffusion, as :class:`Parts` takes it."""
    if settings.sampler not in DETERMINISTIC or settings.eta:
        raise InputError(
            f"The sampler {settings.sampler} with eta {settings.eta:g} draws noise at every step, by which the parts "
            f"of a long sound would differ where they meet: take one of {', '.join(DETERMINISTIC)}, without eta."
        )
    inner, model = loaded.model.model, loaded.model
    guidance = settings.make_guidance(dataclasses.replace(loaded, model=inner))
    times = inner.process.timesteps(settings.num_steps, settings.timestep_spacing)
    made = (inner, settings.make_sampler(), 1, settings.clamp, settings.threshold, None, False)
    text = loaded.tokens([prompt])
    masked = not prompt.strip() if inner.cond_drop_prob > 0 else None
    if masked:
        # With no prompt both halves of the guidance would be the same.
        guidance = None

    def make(pieces: np.ndarray, starts: np.ndarray, progress: Callable[[], Any]) -> jax.Array:
        shape = (len(pieces), pieces.shape[1] * samples_per_frame(model), loaded.config.channels)
        state, conditioning = _begin(model, shape, loaded.variables, key, pieces, starts, times[0], text, masked)
        given = {"conditioning": conditioning, "negative": None, "guidance": guidance}
        state = stepped(made, loaded.variables, state, times, given, progress)
        return _end(model, shape, state.x, pieces)

    return make


@partial(jax.jit, static_argnums=(0, 1))
def _begin(model, shape, variables, key, pieces, starts, t, text, masked) -> tuple[State, dict[str, Any]]:
    _, length, channels = shape
    mono = isinstance(model, DiffusionVocoder)
    fresh = noise(key, starts * samples_per_frame(model), length, (1 if mono else channels,))
    if isinstance(model, DiffusionUpsampler):
        given = {"append_channels": model.upsampled(pieces)}
    elif mono:
        given = {"append_channels": model.flattened(variables, pieces)}
        # All channels start from the same noise: what is alike in them stays so, in the middle.
        fresh = jnp.repeat(fresh, pieces.shape[-1], axis=0)
    else:
        given = {"channels": model.injected(model.fitted(pieces))}
    text = {name: jnp.repeat(value, len(fresh), axis=0) for name, value in text.items()}
    given = model.model.conditioning(variables, {**given, **text})
    if masked is not None:
        given["embedding_mask"] = jnp.full(len(fresh), masked)
    x = model.model.start(jax.random.key(0), fresh.shape, t, noise=fresh)
    return begin(x, t), given


@partial(jax.jit, static_argnums=(0, 1))
def _end(model, shape, x, pieces) -> jax.Array:
    x = x[:, : shape[1]]
    if isinstance(model, DiffusionUpsampler):
        return model.consistent(x, pieces)
    if isinstance(model, DiffusionVocoder):
        return model.consistent(model.finished(x, pieces), pieces)
    return x
