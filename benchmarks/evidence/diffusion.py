"""Measures diffusion models that get the low band, the mel spectrogram or the latent of held-out sounds."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.griffin_lim import mel_to_audio
from archijax.audio.stft import STFT
from archijax.models import reconstruct
from archijax.pipeline import Pipeline
from benchmarks.evidence.clips import (
    Case,
    Rows,
    clips,
    judged,
    lower,
    resampled,
    untrained,
)

CROPS = 8  # of each file
STEPS = 15
Promises = dict[str, bool]
LSD, STFT_DISTANCE = "log-spectral distance (dB)", "STFT distance"


def upsampler(case: Case) -> tuple[Rows, Promises]:
    """Returns (table, promises) for an upsampler. Baselines: sinc interpolation, alone and with two kinds of noise.

    Both kinds of noise are stationary. The first has the mean magnitudes of the training sounds above the low band, the
    second their mean log-magnitudes. Because of silent frames, the second is very quiet: its distances are smaller, but
    it is hardly audible.
    """
    pipeline = case.pipeline
    model, stft = pipeline.model, STFT(512, 128)
    reupsampled = jax.jit(model.reupsampled)
    beside = [crops - reupsampled(crops) for crops in clips(pipeline, case.train, CROPS)]
    magnitudes = np.concatenate([np.abs(stft.encode(rest)) for rest in beside])
    rng = np.random.default_rng(0)

    def shaped(envelope: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        def system(crops: np.ndarray) -> np.ndarray:
            z = np.asarray(stft.encode(jnp.asarray(rng.standard_normal(crops.shape), jnp.float32)))
            z = z * (envelope / np.mean(np.abs(z), axis=(0, 1)))
            return np.asarray(reupsampled(crops)) + np.asarray(stft.decode(jnp.asarray(z), crops.shape[1]))

        return system

    noisy, faint = "sinc and noise of mean magnitudes", "sinc and noise of mean log-magnitudes"
    rows = judged(
        pipeline,
        clips(pipeline, case.heldout, CROPS),
        {
            "trained": _reconstruction(pipeline),
            "sinc": reupsampled,
            noisy: shaped(np.mean(magnitudes, axis=(0, 1))),
            faint: shaped(np.exp(np.mean(np.log(magnitudes + 1e-5), axis=(0, 1)))),
        },
    )
    return rows, {**lower(rows, LSD, noisy), **lower(rows, STFT_DISTANCE, noisy)}


def vocoder(case: Case) -> tuple[Rows, Promises]:
    """Returns (table, promises) for a vocoder. Baselines: Griffin-Lim, and noise adapted to the mel spectrogram."""
    pipeline = case.pipeline
    mel = pipeline.model.mel

    @jax.jit
    def noise(crops: jax.Array) -> jax.Array:
        return pipeline.model.consistent(jax.random.normal(jax.random.key(0), crops.shape), mel.encode(crops))

    @jax.jit
    def griffin_lim(crops: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), len(crops))
        return mel_to_audio(mel.encode(crops), keys, mel, crops.shape[1], 60)

    systems = {
        "trained": _reconstruction(pipeline),
        "noise, as much brought to the mel": noise,
        "Griffin-Lim, 60 iterations": griffin_lim,
    }
    rows = judged(pipeline, clips(pipeline, case.heldout, CROPS), systems)
    return rows, lower(rows, STFT_DISTANCE, "Griffin-Lim, 60 iterations")


def autoencoder(case: Case) -> tuple[Rows, Promises]:
    """Returns (table, promises) for a diffusion autoencoder. Baselines: untrained, and resampled to as many numbers."""
    pipeline = case.pipeline
    model, config = pipeline.model, pipeline.config
    kept = config.sample_rate * model.latent_channels // model.downsample_factor // config.channels
    name = f"resampled to {kept} Hz"
    systems = {"trained": _reconstruction(pipeline), "untrained": _reconstruction(pipeline, untrained(pipeline))}
    rows = judged(pipeline, clips(pipeline, case.heldout, CROPS), systems, {name: resampled(config.sample_rate, kept)})
    return rows, {**lower(rows, LSD, name), **lower(rows, STFT_DISTANCE, name)}


def _reconstruction(pipeline: Pipeline, variables: dict | None = None) -> Callable[[np.ndarray], jax.Array]:
    made = jax.jit(lambda variables, crops: reconstruct(pipeline.model, variables, crops, num_steps=STEPS))
    return lambda crops: made(pipeline.variables if variables is None else variables, crops)
