"""python -m benchmarks.unconditional MODEL FOLDER ...: measures a model without text, by the number of denoising steps.

The folders have sounds that the model was not trained on. The distance of two sets of sounds is 1000 times the kernel
distance of log-mel embeddings (:func:`archijax.audio.metrics.log_mel_embedding`). Every second sound of the folders, in
a random order, belongs to the reference. The table has the distances of the model's sounds, of the sounds of an
untrained net (with the middle number of steps), and of white noise as loud as the reference. `real` is the other half
of the sounds, and `coded` is what the autoencoder of a latent model makes of that half.
"""

import argparse
from pathlib import Path

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.audio.metrics import kernel_distance, log_mel_embedding
from archijax.pretrained import from_pretrained
from benchmarks.codec import sounds_in, write_sounds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unconditional", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of sounds that it was not trained on")
    parser.add_argument("--out", type=Path, help="folder for the sounds")
    parser.add_argument("--count", type=int, default=64, help="sounds of each row")
    parser.add_argument("--num-steps", type=int, nargs="+", default=(5, 15, 50), help="numbers of denoising steps")
    options = parser.parse_args()
    pipeline = from_pretrained(options.model)
    config, rate = pipeline.config, pipeline.config.sample_rate
    share = ceil_div(2 * options.count, len(options.folders))
    heldout = [s for folder in options.folders for s in sounds_in(folder, share, rate, config.channels)]
    length = min(config.length, *map(len, heldout))
    heldout = [sound[:length] for sound in heldout]
    known, real = heldout[::2], heldout[1::2]
    loud = np.sqrt(np.mean(np.square(known)))
    table = {
        "real": real,
        "noise": np.float32(np.random.default_rng(0).normal(0, loud, (options.count, *known[0].shape))),
    }
    if config.autoencoder is not None:
        codec = pipeline.halves[1]
        table["coded"] = [codec.reconstruct(sound, sample_rate=rate).sounds[0][:length] for sound in real]
    middle = sorted(options.num_steps)[len(options.num_steps) // 2]
    rows = [("trained", pipeline, steps) for steps in options.num_steps]
    rows.append(("untrained", pipeline.untrained(), middle))
    for name, model, steps in rows:
        sounds = model.generate(count=options.count, num_steps=steps, batch_size=16, seed=0).sounds
        table[f"{name}-{steps}-steps"] = [sound[:length] for sound in sounds]
    if options.out:
        write_sounds(options.out, table, rate)
    for name, distance in distances(table, known, rate).items():
        print(f"{name:24}{distance:8.0f}")


def distances(table: dict[str, list[np.ndarray]], known: list[np.ndarray], rate: int) -> dict[str, float]:
    """Returns 1000 times the kernel distance of each set of sounds from the set ``known``. All sounds have one
    length."""
    reference = log_mel_embedding(np.stack(known), rate)
    return {
        name: 1000 * kernel_distance(log_mel_embedding(np.clip(np.stack(sounds), -1, 1), rate), reference)
        for name, sounds in table.items()
    }


if __name__ == "__main__":
    main()
