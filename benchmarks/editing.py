"""python -m benchmarks.editing MODEL NOTES: measures sounds that a model of notes edits.

NOTES is a folder of the set `notes` (`make set-notes`). Real notes in the held-out part of the set are edited, each
with its own prompt: half a second is inpainted, a cut note is extended, and whole notes are varied. The table also
shows the same measures for the unedited notes at the same positions. `kept` is the largest change of a sample that
should not change. `joint` is the largest bend (second difference) of the waveform within a millisecond of a joint,
divided by the largest bend in the 20 ms around the joint. `level` is the change of level from the 50 ms before a joint
to the 50 ms after it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archijax import cli
from archijax.audio import files
from archijax.pretrained import from_pretrained
from benchmarks.judges.pitch import pitch
from benchmarks.notes import RIGHT, held_out

START, END = 0.8, 1.3  # start and end of the inpainted part, in seconds
CUT, MORE = 1.0, 1.0  # length of a cut note and of its extension, in seconds
STRENGTHS = (0.3, 0.6)
SHORTEST = 2.0  # length of a note in seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a run's folder, a saved model's, or a name")
    parser.add_argument("notes", type=Path, help="folder of the set of notes")
    parser.add_argument("--count", type=int, default=24, help="notes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pipeline = from_pretrained(options.model)
    rate = pipeline.config.sample_rate
    rows = [row for row in held_out(options.notes, 10 * options.count) if row["duration"] >= SHORTEST][: options.count]
    real = [files.read(options.notes / row["file_name"], sample_rate=rate, channels=1) for row in rows]

    def edited(verb: str, sounds: Sequence[np.ndarray], *arguments: float) -> list[np.ndarray]:
        with cli.bar(len(rows), verb, "sound") as bar:
            made = []
            for row, sound in zip(rows, sounds, strict=True):
                prompt = row["captions"][0]
                one = getattr(pipeline, verb)(sound, *arguments, prompt, sample_rate=rate, seed=options.seed)
                made.append(one.sounds[0])
                bar.update(1)
        return made

    def right(sounds: Sequence[np.ndarray], seconds: slice) -> float:
        part = slice(round(seconds.start * rate), round(seconds.stop * rate))
        heard = [pitch(sound[part], rate).midi for sound in sounds]
        return float(np.mean([abs(one - row["pitch"]) < RIGHT for one, row in zip(heard, rows, strict=True)]))

    def line(name: str, made: Sequence[np.ndarray], joints: Sequence[float], new: slice, kept: Sequence[slice]) -> None:
        change = max(np.abs(a[k] - b[k]).max() for a, b in zip(made, real, strict=True) for k in kept)
        columns = []
        for sounds in (made, real):
            at = [(sound, round(joint * rate)) for sound in sounds for joint in joints]
            columns += [np.median([_bend(*one, rate) for one in at]), np.median([_step(*one, rate) for one in at])]
            columns.append(right(sounds, new))
        bend, step, pitches, real_bend, real_step, real_pitches = columns
        print(
            f"{name:10} kept {change:.0e}  joint {bend:.2f} (real {real_bend:.2f})  level {step:.1f} dB "
            f"({real_step:.1f})  pitch {pitches:.0%} ({real_pitches:.0%})"
        )

    start, end, cut = (round(seconds * rate) for seconds in (START, END, CUT))
    anew = edited("inpaint", real, START, END)
    line("inpaint", anew, (START, END), slice(START, END), (slice(0, start), slice(end, None)))
    longer = edited("extend", [sound[:cut] for sound in real], MORE)
    line("extend", longer, (CUT,), slice(CUT, CUT + MORE), (slice(0, cut),))
    for strength in STRENGTHS:
        varied = edited("vary", real, strength)
        spectra = [[_bands(sound[: len(b)], rate) for sound in (a, b)] for a, b in zip(varied, real, strict=True)]
        distance = np.median([np.abs(a - b).mean() for a, b in spectra])
        print(f"vary {strength:<5} {distance:.1f} dB from the sound  pitch {right(varied, slice(0, 3)):.0%}")


def _bend(sound: np.ndarray, joint: int, rate: int) -> float:
    """Returns the largest bend within a millisecond of a joint, divided by the largest bend in the 20 ms around it."""
    near, around = rate // 1000, rate // 100
    bend = np.abs(np.diff(sound[joint - around : joint + around, 0], 2))
    middle = bend[around - near : around + near]
    return float(middle.max() / max(bend.max(), 1e-9))


def _step(sound: np.ndarray, joint: int, rate: int) -> float:
    """Returns the change of level from the 50 ms before a joint to the 50 ms after it, in dB."""
    length = rate // 20
    before, behind = (
        np.sqrt(np.mean(part**2) + 1e-10) for part in (sound[joint - length : joint], sound[joint : joint + length])
    )
    return float(abs(20 * np.log10(behind / before)))


def _bands(sound: np.ndarray, rate: int) -> np.ndarray:
    """Returns the levels in dB of frames of 64 ms, in 32 bands: [frames, 32]."""
    size = rate * 64 // 1000
    frames = sound[: len(sound) // size * size, 0].reshape(-1, size) * np.hanning(size)
    power = np.abs(np.fft.rfft(frames))[:, 1 : 1 + size // 2 // 32 * 32] ** 2
    return 10 * np.log10(power.reshape(len(frames), 32, -1).mean(axis=2) + 1e-6)


if __name__ == "__main__":
    main()
