"""python -m benchmarks.upsampling MODEL SOUNDS --out DIR: measures the high band that an upsampler makes.

SOUNDS are at the model's high rate, or above. The model is compared with sinc interpolation, with noise that has the
mean magnitudes of all sounds at each frequency, and, if the model has an envelope, with noise in this envelope, without
the diffusion. Sounds are written to DIR/reference, DIR/model, DIR/sinc and so on, for
`python -m benchmarks.judges DIR/model --reference DIR/reference`. Each entry of the table is the median over sounds
and, after the bar, the limit of the worst tenth. `silent` is the highest level of the model's sound for silence.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import soxr

from archijax.audio.resample import resample
from archijax.audio.stft import STFT
from archijax.contract import Variables
from archijax.models import DiffusionUpsampler
from archijax.pretrained import from_pretrained
from benchmarks.codec import sounds_in, write_sounds

SPECTRUM = STFT(2048, 512)
WIDTH = 64  # of the filters of sinc interpolation, in samples of the low rate
FLOOR = 1e-5  # of magnitudes, about -100 dB of full scale


Sounds = list[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upsampling", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("sounds", type=Path, help="folder of sounds that it was not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64, help="sounds, drawn with seed 0")
    parser.add_argument("--num-steps", type=int)
    options = parser.parse_args()
    trained = from_pretrained(options.model)
    config, model, rate = trained.config, trained.model, trained.config.sample_rate
    settings = {} if options.num_steps is None else {"num_steps": options.num_steps}
    originals = sounds_in(options.sounds, options.count, rate, config.channels)
    length = min(map(len, originals)) // config.length * config.length  # one length, so one compilation
    originals = [sound[:length] for sound in originals]
    # The input is resampled by another program than in training, as files of users are.
    low = trained.low_rate
    inputs = [soxr.resample(sound, rate, low) for sound in originals]
    made = [trained.upsample(sound, sample_rate=low, **settings).sounds[0][:length] for sound in inputs]
    table = {"model": made, **baselines(model, trained.variables, originals)}
    write_sounds(options.out, {"reference": originals, **table}, rate)

    print(f"{len(originals)} sounds of {length / rate:.1f} s, above {rate / 2 / model.factor / 1000:g} kHz")
    print(f"{'':20}{'log-spectral (dB)':>20}{'level (dB)':>18}")
    for name, sounds in table.items():
        distances, levels = measured(sounds, originals, model.factor)
        cells = [f"{np.median(distances):.2f} | {np.percentile(distances, 90):.2f}", f"{np.median(levels):+.2f}"]
        print(f"{name:20}{cells[0]:>20}{cells[1]:>18}")
    silent = trained.upsample(np.zeros_like(inputs[0]), sample_rate=low, **settings)
    print(f"silent: {20 * np.log10(max(float(np.abs(silent.sounds).max()), 1e-9)):.0f} dBFS")


def baselines(model: DiffusionUpsampler, variables: Variables, originals: Sounds) -> dict[str, Sounds]:
    """Returns what simpler systems make of the low bands of sounds [time, c] of equal lengths."""

    @jax.jit
    def interpolated(sound: jax.Array) -> jax.Array:
        low = resample(sound, model.factor, 1, lowpass_filter_width=WIDTH)
        return resample(low, 1, model.factor, lowpass_filter_width=WIDTH)

    encode = jax.jit(SPECTRUM.encode)
    decode = jax.jit(lambda z: SPECTRUM.decode(z, len(originals[0])))
    lows = [np.asarray(interpolated(sound[None]))[0] for sound in originals]
    mean = np.mean([np.abs(encode((a - b)[None])).mean(1) for a, b in zip(originals, lows, strict=True)], axis=0)
    rng = np.random.default_rng(0)
    noises = [rng.standard_normal((1, *sound.shape), np.float32) for sound in originals]

    def stationary(noise: np.ndarray) -> np.ndarray:
        z = np.asarray(encode(noise))
        return np.asarray(decode(jnp.asarray(z * (mean / np.abs(z).mean(1))[:, None])))[0]

    table = {"sinc": lows, "noise": [low + stationary(noise) for low, noise in zip(lows, noises, strict=True)]}
    if model.envelope is not None:
        frames = [model.encode({}, sound[None])[0] for sound in originals]
        # What is added to the low band, without the images that short filters leave in it.
        added = jax.jit(lambda noise, low: model.finish(variables, noise, low) - model.upsampled(low))
        table["noise-in-envelope"] = [
            low + np.asarray(added(noise, frame))[0] for low, noise, frame in zip(lows, noises, frames, strict=True)
        ]
    return table


def measured(sounds: Sounds, originals: Sounds, factor: int) -> tuple[list[float], list[float]]:
    """Compares high bands, above 1 / factor of the highest frequency.

    Returns:
        (the log-spectral distance of each sound in dB, the difference of the mean levels of each sound in dB). The
        second is positive if the high band is too loud.
    """
    distances, levels, cut = [], [], SPECTRUM.frequencies // factor + 1
    for sound, original in zip(sounds, originals, strict=True):
        a, b = _decibels(sound)[:, cut:], _decibels(original)[:, cut:]
        distances.append(float(np.sqrt(np.mean((a - b) ** 2, axis=1)).mean()))
        levels.append(float(np.mean(a) - np.mean(b)))
    return distances, levels


_encode = jax.jit(SPECTRUM.encode)


def _decibels(sound: np.ndarray) -> np.ndarray:
    """Returns the levels [frames, f] of the first channel in dB."""
    return 20 * np.log10(np.abs(np.asarray(_encode(sound[None, :, :1])))[0, ..., 0] + FLOOR)


if __name__ == "__main__":
    main()
