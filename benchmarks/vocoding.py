"""python -m benchmarks.vocoding MODEL SOUNDS --out DIR: measures what a vocoder makes of mel spectrograms.

SOUNDS is a folder of sounds that the vocoder was not trained on. The vocoder is compared with an untrained one, with
Griffin-Lim (100 iterations) from the mel spectrogram, and with Griffin-Lim from the true magnitudes, which is the limit
of a vocoder that estimates magnitudes alone. In `noise`, noise replaces the sound that the vocoder samples, and the
rest of the vocoder is the same. Sounds are written to DIR/reference, DIR/vocoder and so on, for
`python -m benchmarks.judges DIR/vocoder --reference DIR/reference`. The log-spectral distance is the median over sounds
and, after the bar, the limit of the worst tenth. `pitch` is the number of sounds whose pitch is within 20 cents of that
of the original, among the originals with a clear pitch.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.griffin_lim import griffin_lim, mel_to_audio, random_phase
from archijax.audio.metrics import paired_log_spectral_distance
from archijax.contract import Variables
from archijax.models import DiffusionVocoder
from archijax.pretrained import from_pretrained
from benchmarks.codec import pitch_kept, sounds_in, write_sounds
from benchmarks.judges.pitch import pitch

ITERATIONS = 100
RIGHT = 0.2  # semitones


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocoding", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("sounds", type=Path, help="folder of sounds that it was not trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=48, help="sounds, drawn with seed 0")
    parser.add_argument("--num-steps", type=int, default=20)
    options = parser.parse_args()
    trained = from_pretrained(options.model)
    config, rate = trained.config, trained.config.sample_rate
    originals = sounds_in(options.sounds, options.count, rate, 1)
    length = min(map(len, originals)) // config.length * config.length  # one length, so one compilation
    originals = [sound[:length] for sound in originals]
    random = trained.untrained().variables
    table = {name: [] for name in ("vocoder", "noise", "untrained", "griffin-lim", "true-magnitudes")}
    for index, sound in enumerate(originals):
        key = jax.random.key(index)
        clip = jnp.asarray(sound[None])
        made = vocoded(trained.model, trained.variables, clip, key, options.num_steps)
        untrained = vocoded(trained.model, random, clip, key, options.num_steps)
        made |= {"untrained": untrained["vocoder"], **baselines(trained.model, clip, key)}
        for name, result in made.items():
            table[name].append(np.asarray(result[0]))
    write_sounds(options.out, {"reference": originals, **table}, rate)

    print(f"{len(originals)} sounds of {length / rate:.1f} s")
    print(f"{'':16}{'log-spectral (dB)':>20}{'pitch':>14}")
    pitches = [pitch(sound, rate) for sound in originals]
    for name, sounds in table.items():
        far = [paired_log_spectral_distance(a[None], b[None])[0] for a, b in zip(sounds, originals, strict=True)]
        right, clear = pitch_kept(sounds, pitches, rate, RIGHT)
        print(f"{name:16}{f'{np.median(far):.2f} | {np.percentile(far, 90):.2f}':>20}{f'{right} of {clear}':>14}")


@partial(jax.jit, static_argnames=("model", "num_steps"))
def vocoded(
    model: DiffusionVocoder, variables: Variables, sound: jax.Array, key: jax.Array, num_steps: int
) -> dict[str, jax.Array]:
    """Returns what a vocoder makes of a sound [1, time, 1], and what it makes if noise replaces the sampled sound."""
    mel = model.mel.encode(sound)
    noise, conditioning = model.prepare(variables, mel, jax.random.normal(key, sound.shape), {})
    sampled = model.model.sample(
        variables, key[None], shape=noise.shape, noise=noise, num_steps=num_steps, **conditioning
    )
    return {"vocoder": model.finish(variables, sampled, mel), "noise": model.finish(variables, noise, mel)}


@partial(jax.jit, static_argnames="model")
def baselines(model: DiffusionVocoder, sound: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Returns what Griffin-Lim makes of the mel spectrogram and of the magnitudes of a sound [1, time, 1]."""
    stft, length, keys = model.mel.stft, sound.shape[1], key[None]
    magnitude = jnp.abs(stft.encode(sound))
    return {
        "griffin-lim": mel_to_audio(model.mel.encode(sound), keys, model.mel, length, ITERATIONS),
        "true-magnitudes": griffin_lim(magnitude, random_phase(keys, magnitude.shape), stft, length, ITERATIONS),
    }


if __name__ == "__main__":
    main()
