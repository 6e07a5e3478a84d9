"""Measures autoencoders on held-out sounds, and compares them with baselines that keep as many numbers per second."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.stft import from_polar, to_polar
from archijax.codecs.encoders import log_magnitude
from archijax.codecs.losses import FLOOR
from benchmarks.evidence.clips import (
    Case,
    Rows,
    clips,
    judged,
    resampled,
    untrained,
)


def wave(case: Case) -> tuple[Rows, dict[str, bool]]:
    """Returns (table, promises) for an autoencoder of sound. Baselines: the untrained model, and the sound resampled to
    as many numbers."""
    pipeline = case.pipeline
    model, rate = pipeline.model, pipeline.config.sample_rate
    kept = rate * model.latent_channels // model.downsample_factor
    codes = []

    @jax.jit
    def both(variables, crops):
        latent, info = model.encode(variables, crops)
        return model.decode(variables, latent), info.get("codes")

    def trained(crops):
        sound, found = both(pipeline.variables, crops)
        if found is not None:
            codes.append(np.asarray(found).reshape(-1, found.shape[-1]))
        return sound

    before = untrained(pipeline)
    systems = {"trained": trained, "untrained": lambda crops: both(before, crops)[0]}
    baseline = {f"resampled to {kept} Hz": resampled(rate, kept)}
    rows = judged(pipeline, clips(pipeline, case.heldout), systems, baseline)
    sdr = {name: row["SI-SDR (dB)"] for name, row in rows.items()}
    promises = {
        f"SI-SDR 3 dB above '{name}'": sdr["trained"] >= value + 3 for name, value in sdr.items() if name != "trained"
    }
    if codes:
        size = next(part.num_codes for part in pipeline.config.bottleneck if hasattr(part, "num_codes"))
        used = [len(np.unique(level)) / size for level in np.concatenate(codes).T]
        shown = ", ".join(f"{part:.1%}" for part in used)
        promises[f"more than 80 % of {size} codes used at each level: {shown}"] = min(used) > 0.8 and size >= 256
    return rows, promises


def magnitude(case: Case) -> tuple[Rows, dict[str, bool]]:
    """Returns (table, promises) for an autoencoder of magnitudes. Baselines: the untrained model, and magnitudes
    averaged to as many values as the latent has.

    Sounds are made from magnitudes with the phases of the original, so that only the magnitudes differ.
    """
    pipeline = case.pipeline
    model, before = pipeline.model, untrained(pipeline)
    stft, factor = model.net.stft, model.net.downsample_factor
    compression = stft.frequencies * pipeline.config.channels * factor / model.latent_channels

    def sound(change: Callable) -> Callable:
        @jax.jit
        def made(variables, crops):
            norm, phase = to_polar(stft.encode(crops))
            return stft.decode(from_polar(change(variables, crops, jnp.maximum(norm, FLOOR)), phase), crops.shape[1])

        return made

    net = sound(lambda variables, crops, norm: model.decode_magnitude(variables, model.encode(variables, crops)[0]))
    systems = {
        "trained": lambda crops: net(pipeline.variables, crops),
        "untrained": lambda crops: net(before, crops),
    }
    # The baseline is the best of several ratios between pooling in time and pooling in frequency.
    frames = pipeline.config.length // stft.hop_length
    for time in (1, 2, 4, 8, 16):
        bins = max(1, round(stft.frequencies * time / compression))
        if bins <= stft.frequencies:
            pooled = sound(lambda _, crops, norm, time=time, bins=bins: _pooled(norm, frames // time, bins))
            systems[f"pooled to {bins} bins, {time} frames"] = lambda crops, pooled=pooled: pooled(None, crops)
    rows = judged(pipeline, clips(pipeline, case.heldout), systems)
    distance = {name: row["log-spectral distance (dB)"] for name, row in rows.items()}
    promises = {
        f"log-spectral distance 30 % below '{name}'": distance["trained"] <= 0.7 * value
        for name, value in distance.items()
        if name != "trained"
    }
    return rows, promises


def _pooled(norm: jax.Array, frames: int, bins: int) -> jax.Array:
    """Averages log-magnitudes [b, frames, frequencies, c] to fewer values, and interpolates them back."""
    small = jax.image.resize(log_magnitude(norm), (len(norm), frames, bins, norm.shape[3]), "linear")
    return jnp.exp(jax.image.resize(small, norm.shape, "linear"))
