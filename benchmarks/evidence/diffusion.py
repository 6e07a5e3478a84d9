"""Measures diffusion models that get the mel spectrogram or the latent of held-out sounds."""

from collections.abc import Callable

import jax
import numpy as np

from archijax.audio.griffin_lim import mel_to_audio
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
