"""python -m docs.evidence RUNS (make docs-evidence): sounds and pictures of the small models, for docs/evidence.md.

RUNS is the folder of `make evidence`, whose programs of benchmarks/ wrote the sounds of their tables to folders. Of
each of the folders in SHOWN, this program takes the first sound. It writes the files, a picture of their spectrograms,
and a table with players to docs/media.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import soundfile

from docs.players import picture, player, report, short, table


@dataclass(frozen=True)
class Shown:
    """The first sound of some systems, side by side."""

    name: str
    """The name of the picture and of the table."""
    row: str
    """What the sounds are. The caption of the sounds replaces it, if they have one."""
    seconds: float
    """The length of each sound. It is short, because all versions of a file stay in the history of the repository."""
    systems: dict[str, str]
    """The folders of the systems, by the words above the pictures."""


SHOWN = (
    Shown(
        "phrases",
        "a phrase",
        3.0,
        {
            "real": "long-judged/real",
            "coded": "long-judged/coded",
            "generated": "long-judged/generated",
        },
    ),
    Shown(
        "drums",
        "a drum loop",
        3.0,
        {
            "real": "drums_small-judged/real",
            "generated, latents": "drums_small-judged/trained-50-steps",
            "generated, waveform": "drums_small_waveform-judged/trained-50-steps",
        },
    ),
    Shown(
        "upsampled",
        "a phrase",
        1.5,
        {
            "real, 48 kHz": "upsampler-judged/reference",
            "sinc interpolation": "upsampler-judged/sinc",
            "upsampled": "upsampler-judged/model",
        },
    ),
    Shown(
        "vocoded",
        "a note",
        2.5,
        {
            "real": "vocoder-notes/reference",
            "Griffin-Lim": "vocoder-notes/griffin-lim",
            "vocoder": "vocoder-notes/vocoder",
        },
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.evidence", description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, help="the folder of `make evidence`")
    runs = parser.parse_args().runs
    for shown in SHOWN:
        show(runs, shown)
    report()


def show(runs: Path, shown: Shown) -> None:
    """Writes the sounds, the picture and the table of one example."""
    sounds, rates, row = [], set(), shown.row
    for folder in (runs / name for name in shown.systems.values()):
        sound, rate = soundfile.read(folder / "0000.flac", dtype="float32", always_2d=True)
        sounds.append(short(sound, rate, shown.seconds))
        rates.add(rate)
        if (metadata := folder / "metadata.jsonl").exists():
            row = json.loads(metadata.read_text(encoding="utf-8").splitlines()[0])["caption"]
    (rate,) = rates
    picture(shown.name, {"": sounds}, rate, list(shown.systems))
    cells = [
        player(f"{shown.name}-{number}", sound, rate, label)
        for number, (label, sound) in enumerate(zip(shown.systems, sounds, strict=True))
    ]
    table(shown.name, ["", *shown.systems], {row: cells})


if __name__ == "__main__":
    main()
