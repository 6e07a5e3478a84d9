"""python -m benchmarks.adapters MODEL ADAPTERS NOTES: measures what a model loses of other notes when adapters are on.

MODEL is a latent model at 16 kHz. ADAPTERS is a run's folder or FOLDER:WEIGHT, as for --lora of `python -m sample`.
NOTES is a folder of the set `notes`.
The model generates the same held-out notes without and with the adapters, from the same noise. The two judges in numpy
judge the pitch and the instrument of each note. A note is lost if it is right without the adapters and wrong with them.
The program then generates notes of the demo's new instrument, and judges them as the demo does.
"""

import argparse
from pathlib import Path

import numpy as np

from archijax import cli
from archijax.errors import InputError
from archijax.pipeline import SampleSettings
from archijax.pretrained import from_pretrained
from benchmarks.notes import held_out, instrument_names, judged, played
from demo import hearing, instrument
from demo.note import RATE, bundled


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("adapters", help="the folder of a run with --lora, or FOLDER:WEIGHT")
    parser.add_argument("notes", type=Path, help="folder of the set of notes")
    parser.add_argument("--count", type=int, default=96, help="sounds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plain = from_pretrained(options.model)
    if plain.config.autoencoder is None or plain.config.sample_rate != RATE:
        raise InputError(f"{options.model} is no latent model of {RATE} Hz: the demo's judge needs one.")
    adapted = from_pretrained(options.model, lora=dict([cli.weighted(options.adapters)]))
    rows, settings = held_out(options.notes, options.count), SampleSettings(seed=options.seed)
    rate, names = plain.config.sample_rate, instrument_names(options.notes)
    before, after = (judged(played(each, rows, settings), rows, rate, names)[:2] for each in (plain, adapted))
    for name, old, new in zip(("pitch", "instrument"), before, after, strict=True):
        print(
            f"{name} of {len(rows)} other notes: {old.sum()} right, with adapters {new.sum()}; "
            f"{(old & ~new).sum()} lost, {(new & ~old).sum()} won"
        )

    lessons, notes = instrument.notes()
    own, others = [note.sound for note in lessons], [note.sound for note in bundled()]
    codec = plain.halves[1]
    coded = [[codec.reconstruct(sound, sample_rate=rate).sounds[0] for sound in some] for some in (own, others)]
    judge = hearing.of_new(instrument.NAME, own + coded[0], others + coded[1])
    prompts = [{"captions": [note.prompt]} for note in notes]
    for name, pipeline in {"without adapters": plain, "with adapters": adapted}.items():
        clips = [np.clip(sound, -1, 1) for sound in played(pipeline, prompts, settings)]
        heard = judge.hear(clips, notes)
        right, pitches = (sum(getattr(one, what) for one in heard) for what in ("right_instrument", "right_pitch"))
        print(f"{instrument.NAME} {name}: heard in {right} of {len(notes)} notes, the pitch right in {pitches}")


if __name__ == "__main__":
    main()
