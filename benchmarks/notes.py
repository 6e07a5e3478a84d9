"""python -m benchmarks.notes MODEL NOTES [--out DIR]: measures whether a model plays the prompted notes.

NOTES is a folder of the set `notes` (`make set-notes`). The model generates the notes in the held-out part of the set,
from prompts or, without text, from conditions such as instrument and pitch. The training had none of these pairs of
instrument and pitch. The two judges in numpy measure pitch and instrument. The table also has real sounds, real sounds
coded by a latent model's codec, generated sounds with shuffled prompts, and an untrained net. With --out, the sounds
are written to DIR/generated and DIR/real, for the other judges.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archijax import cli
from archijax.audio import files
from archijax.errors import InputError
from archijax.nn import Number
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pretrained import from_pretrained
from benchmarks.judges import instrument, pitch

RIGHT = 0.5  # semitones


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notes", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("notes", type=Path, help="folder of the set of notes")
    parser.add_argument("--count", type=int, default=96, help="sounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--sampler")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = ("num_steps", "sampler", "guidance_scale")
    chosen = {name: value for name in names if (value := getattr(options, name)) is not None}
    pipeline = from_pretrained(options.model)
    rows = held_out(options.notes, options.count)
    rate = pipeline.config.sample_rate
    real = [files.read(options.notes / row["file_name"], sample_rate=rate, channels=1) for row in rows]
    among = instrument_names(options.notes)

    began = time.perf_counter()
    settings = SampleSettings(seed=options.seed, **chosen)
    generated = played(pipeline, rows, settings)
    spent = time.perf_counter() - began
    order = np.random.default_rng(options.seed).permutation(len(rows))
    untrained = played(pipeline.untrained(), rows, settings)
    table = {
        "real": score(real, rows, rate, among),
        "generated": score(generated, rows, rate, among),
        "prompts shuffled": score(generated, [rows[i] for i in order], rate, among),
        "untrained net": score(untrained, rows, rate, among),
    }
    if pipeline.config.autoencoder is not None:
        codec = pipeline.halves[1]
        coded = [codec.reconstruct(sound, sample_rate=rate).sounds[0] for sound in real]
        table["coded"] = score(coded, rows, rate, among)
    print(
        f"{len(rows)} held-out notes of {len(among)} instruments, {chosen or 'default settings'}, seed {options.seed}"
    )
    print(f"{'':18}{'pitch':>8}{'instrument':>12}{'periodicity':>13}")
    for name, (pitches, instruments, periodicity) in table.items():
        print(f"{name:18}{pitches:8.1%}{instruments:12.1%}{periodicity:13.3f}")
    print(f"{spent / len(rows):.2f} s a sound, compilation included")
    if options.out:
        for folder, some in {"generated": generated, "real": real}.items():
            for row, sound in zip(rows, some, strict=True):
                path = options.out / folder / Path(row["file_name"]).with_suffix(".flac").relative_to("heldout")
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write(path, np.clip(sound, -1, 1), rate)
            lines = [{**row, "file_name": str(Path(row["file_name"]).relative_to("heldout"))} for row in rows]
            text = "\n".join(map(json.dumps, lines))
            (options.out / folder / "metadata.jsonl").write_text(f"{text}\n")


def instrument_names(folder: Path) -> list[str]:
    """Returns the names of the instruments of a set."""
    return sorted({row["instrument"] for row in _rows(folder)})


def held_out(folder: Path, count: int) -> list[dict]:
    """Draws ``count`` random notes of the set's held-out part, with seed 0. Returns their lines of metadata.jsonl."""
    rows = [row for row in _rows(folder) if row["split"] == "heldout"]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:count]]


def played(
    pipeline: Pipeline,
    rows: Sequence[dict],
    settings: SampleSettings,
    seconds: float | None = None,
    what: str = "sampling",
) -> list[np.ndarray]:
    """Generates a sound [time, channels] for each row, from its first caption and from those of its fields that
    condition the model. Each sound starts from other noise. ``what`` titles the progress bar. Raises InputError if the
    model is conditioned on a field that no row has."""
    prompts = ["" if pipeline.config.text is None else row["captions"][0] for row in rows]
    conditioners = pipeline.config.conditioners
    for each in conditioners:
        # A Number, such as the length of a piece, has a default for sounds without it.
        if not isinstance(each, Number) and not any(each.name in row for row in rows):
            raise InputError(f"The model is conditioned on {each.name}, but no sound of the set has this field.")
    groups: dict[tuple, list[int]] = {}  # the rows with the same conditions
    for index, row in enumerate(rows):
        conditions = tuple((each.name, row[each.name]) for each in conditioners if each.name in row)
        groups.setdefault(conditions, []).append(index)
    generations = [
        pipeline.generation(
            settings, [prompts[i] for i in indices], list(enumerate(indices)), seconds, conditions=dict(conditions)
        )
        for conditions, indices in groups.items()
    ]
    with cli.bar(sum(generation.steps for generation in generations), what, "step") as bar:
        clips = {index: sound for generation in generations for _, index, sound in generation.run(bar.update)}
    return [clips[index] for index in range(len(rows))]


def score(
    clips: Sequence[np.ndarray], rows: Sequence[dict], rate: int, among: Sequence[str]
) -> tuple[float, float, float]:
    """Returns (share of clips with the prompt's pitch, share with the prompt's instrument, median periodicity)."""
    pitches, names, periodicity = judged(clips, rows, rate, among)
    return float(np.mean(pitches)), float(np.mean(names)), float(np.median(periodicity))


def judged(
    clips: Sequence[np.ndarray], rows: Sequence[dict], rate: int, among: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (whether a clip has the prompt's pitch, whether it has the prompt's instrument, its periodicity), each an
    array with one entry per clip."""
    classifier = instrument.load()
    heard = [pitch.pitch(clip, rate) for clip in clips]
    pitches = [abs(one.midi - row["pitch"]) < RIGHT for one, row in zip(heard, rows, strict=True)]
    names = [classifier.heard(clip, rate, among) == row["instrument"] for clip, row in zip(clips, rows, strict=True)]
    return np.array(pitches), np.array(names), np.array([one.periodicity for one in heard])


def _rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
