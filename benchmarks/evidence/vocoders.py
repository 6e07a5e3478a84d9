"""Measures vocoders, which get the mel spectrogram of held-out sounds."""

import jax

from archijax.audio.griffin_lim import mel_to_audio
from archijax.models import reconstruct
from benchmarks.evidence.clips import Case, Rows, clips, judged, lower

CROPS = 8  # of each file
STEPS = 15
STFT_DISTANCE = "STFT distance"


def vocoder(case: Case) -> tuple[Rows, dict[str, bool]]:
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

    @jax.jit
    def trained(variables: dict, crops: jax.Array) -> jax.Array:
        return reconstruct(pipeline.model, variables, crops, num_steps=STEPS)

    systems = {
        "trained": lambda crops: trained(pipeline.variables, crops),
        "noise, as much brought to the mel": noise,
        "Griffin-Lim, 60 iterations": griffin_lim,
    }
    rows = judged(pipeline, clips(pipeline, case.heldout, CROPS), systems)
    return rows, lower(rows, STFT_DISTANCE, "Griffin-Lim, 60 iterations")
