"""python -m benchmarks.judges.calibration SETS [--out FILE]: checks judges with known damage.

SETS is the folder with the sets `notes`, `phrases` and `speech`. The program damages real sounds in known ways and runs
each judge. `orders.py` states in which order the results must be. The program writes the table, and ends with status 1
if an order does not hold.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
from scipy.signal import butter, sosfilt

from benchmarks.judges.judge import Case, Clip, metadata, read_clip
from benchmarks.judges.jury import judged
from benchmarks.judges.orders import LOW_PASSED, MOVED, NOISES, OTHER, SAME, broken
from benchmarks.judges.panel import kernel

SECONDS = 3.0
# These notes exist in both parts. They differ strongly: plucked, struck, blown, bowed. File names are without the part.
NOTES = (
    "grand_piano/060_medium", "vibraphone/072_loud", "reed_organ/055_medium", "nylon_guitar/052_loud",
    "violin/067_loud", "cello/048_medium", "trumpet/065_loud", "flute/074_medium",
)  # fmt: skip
SENTENCES = 6
PHRASES, COUNT = (("grand_piano", "melody"), ("nylon_guitar", "arpeggio"), ("drums_standard", "drums")), 6


def damages() -> dict[str, Callable[[Clip], Clip]]:
    """Returns a function for each kind of damage, by its name. The function damages a clip."""
    made: dict[str, Callable[[Clip], Clip]] = {SAME: lambda clip: clip}
    made |= {name: lambda clip, level=level: noisy(clip, level) for name, level in NOISES.items()}
    made |= {name: lambda clip, hertz=hertz: low_passed(clip, hertz) for name, hertz in LOW_PASSED.items()}
    return made | {name: lambda clip, cents=cents: moved(clip, cents) for name, cents in MOVED.items()}


def noisy(clip: Clip, below: float) -> Clip:
    """Adds white noise, `below` dB below the level of the clip."""
    noise = np.random.default_rng(0).standard_normal(len(clip.audio))
    level = np.sqrt(np.mean(clip.audio**2)) * 10 ** (-below / 20)
    return replace(clip, audio=(clip.audio + level * noise).astype(np.float32))


def low_passed(clip: Clip, hertz: float) -> Clip:
    """Removes the frequencies above `hertz`."""
    filtered = sosfilt(butter(8, hertz, fs=clip.rate, output="sos"), clip.audio)
    return replace(clip, audio=filtered.astype(np.float32))


def moved(clip: Clip, cents: float) -> Clip:
    """Plays the clip faster, so that its pitch is higher, and cuts or pads it to the same length."""
    audio = soxr.resample(clip.audio, 2 ** (cents / 1200), 1.0)[: len(clip.audio)]
    return replace(clip, audio=np.pad(audio, (0, len(clip.audio) - len(audio))).astype(np.float32))


def measured(sets: Path) -> dict[str, dict[str, float]]:
    """Returns the means of the judges' columns by kind of damage, as {column: {kind of damage: mean}}."""
    notes, others = _notes(sets / "notes")
    made = {kind: [damage(clip) for clip in notes] for kind, damage in damages().items()} | {OTHER: others}
    table = _means(made, notes, ())
    for kind, clips in made.items():
        for column, values in kernel.judge(Case(clips, notes)).items():
            table.setdefault(column, {})[kind] = float(values.values[0])
    known = metadata(sets / "speech")
    paths = sorted((sets / "speech").glob("heldout/ru/*.flac"))[:SENTENCES]
    spoken = [_short(read_clip(path, sets / "speech", known)) for path in paths]
    heard = {kind: [damage(clip) for clip in spoken] for kind, damage in damages().items()}
    table |= _means(heard, spoken, ("speech", "dnsmos"))
    phrases = _phrases(sets / "phrases")
    played = {SAME: phrases}
    played |= {f"pitch moved by {cents} cents": [moved(clip, cents) for clip in phrases] for cents in (100, 300)}
    return table | _means(played, (), ("tempo", "transcription"), prefix="phrases: ")


def _means(
    made: dict[str, list[Clip]], reference: Sequence[Clip], judges: tuple[str, ...], prefix: str = ""
) -> dict[str, dict[str, float]]:
    """Judges all kinds of damage at once. Returns {column: {kind of damage: mean}}."""
    clips = [clip for kind in made.values() for clip in kind]
    case = Case(clips, list(reference) * len(made), bool(reference))
    table: dict[str, dict[str, float]] = {}
    for column, values in judged(case, judges).items():
        if len(values.values) != len(clips):
            continue  # these columns have one value for the whole set
        each = np.split(values.values, len(made))
        table[prefix + column] = {kind: float(np.nanmean(part)) for kind, part in zip(made, each, strict=True)}
    return table


def _notes(root: Path) -> tuple[list[Clip], list[Clip]]:
    """Returns (notes, notes of other instruments with the same pitches, which keep the prompts of the first)."""
    known = metadata(root)

    def note(folder: str, name: str) -> Clip:
        path = next(iter(sorted(root.glob(f"*/{folder}/{name}.flac"))))
        return _short(read_clip(path, root, known))

    places = [name.split("/") for name in NOTES]
    notes = [note(*place) for place in places]
    others = [note(folder, name) for (folder, _), (_, name) in zip(places[1:] + places[:1], places, strict=True)]
    return notes, [replace(clip, fields=asked.fields) for clip, asked in zip(others, notes, strict=True)]


def _phrases(root: Path) -> list[Clip]:
    """Returns equal numbers of melodies, arpeggios and drum loops."""
    known = metadata(root)
    clips = []
    for folder, kind in PHRASES:
        names = [name for name in sorted(known) if name.split("/")[1] == folder and kind in name][:COUNT]
        clips += [read_clip(root / f"{name}.flac", root, known) for name in names]
    return clips


def _short(clip: Clip) -> Clip:
    return replace(clip, audio=clip.audio[: round(SECONDS * clip.rate)])


def text(table: dict[str, dict[str, float]]) -> str:
    """Returns the table as Markdown, with a row for each judge's result and a column for each kind of damage."""
    kinds = list(dict.fromkeys(kind for row in table.values() for kind in row))
    lines = [f"| | {' | '.join(kinds)} |", f"|---|{'---:|' * len(kinds)}"]
    for column, row in table.items():
        cells = " | ".join(f"{row[kind]:.3g}" if kind in row else "" for kind in kinds)
        lines.append(f"| {column} | {cells} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measures, writes and checks the table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judges.calibration", description=__doc__.split("\n")[0])
    parser.add_argument("sets", type=Path, help="folder with the sets notes, phrases and speech")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"), help="file for the table")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    table = measured(options.sets)
    failures = broken(table)
    verdict = "\n".join(f"- BROKEN: {sentence}" for sentence in failures) or "Every order holds."
    options.out.write_text(f"# What the judges say of known damage\n\n{INTRODUCTION}\n\n{text(table)}\n\n{verdict}\n")
    print(text(table), verdict, f"{time.monotonic() - start:.0f} s", sep="\n")
    return 1 if failures else 0


INTRODUCTION = """By `make judges-check`: means over 8 notes (3 s, 16 kHz), 6 Russian sentences (PESQ, STOI, DNSMOS) and
18 phrases (melodies, arpeggios, drum loops). `orders.py` says what each judge must put in order."""


if __name__ == "__main__":
    sys.exit(main())
