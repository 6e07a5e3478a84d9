"""python -m docs.sounds (make docs-sounds): the sounds and pictures of the README and the site, by the bundled models.

The sounds are a subset of the results of `make demo`, with the same prompts, seed and settings. No sound was selected
by listening. The program writes docs/media: FLAC files of a few seconds, pictures of their spectrograms, and tables
with players, which pages include.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from archijax.pipeline import Pipeline, SampleSettings
from archijax.pretrained import from_pretrained
from benchmarks.sets.instruments import note_name
from demo import hearing
from demo.note import RATE, Note, bundled
from docs.players import MEDIA, Sounds, picture, player, report, short, table

SHOWN = ("grand piano", "church organ", "electric bass", "cello", "flute", "clarinet")
SECONDS = 2.5  # length of each note in seconds
CODED = slice(2, 5)  # indices in SHOWN: notes for the codec
EDITED = 0  # index in SHOWN: note for the edits


def main() -> None:
    MEDIA.mkdir(exist_ok=True)
    pipeline, notes = from_pretrained("notes"), bundled()
    numbers = [i for name in SHOWN for i, note in enumerate(notes) if note.instrument == name]
    asked = [notes[i] for i in numbers]
    real = [note.sound for note in asked]
    show_notes(asked, real, _played(pipeline, notes, numbers), _played(pipeline.untrained(), notes, numbers))
    codec = pipeline.halves[1]
    coded = [codec.reconstruct(sound, sample_rate=RATE).sounds[0] for sound in real[CODED]]
    _heard("codec", asked[CODED], {"real": real[CODED], "coded": coded})
    show_edits(pipeline, asked[EDITED])
    report()


def show_notes(asked: Sequence[Note], real: Sounds, generated: Sounds, untrained: Sounds) -> None:
    """Writes real and generated notes: files, their picture, their table."""
    rows = {"real": real, "generated": generated}
    columns = [f"{note.instrument} {note_name(note.pitch)}" for note in asked]
    pictured = {name: [short(sound, RATE, SECONDS) for sound in some] for name, some in rows.items()}
    pictured["untrained net"] = [short(sound, RATE, SECONDS) for sound in untrained]
    picture("notes", pictured, RATE, columns)
    _heard("notes", asked, rows)


def show_edits(pipeline: Pipeline, note: Note) -> None:
    """Writes the results of the editing verbs for a note."""
    given = {"sample_rate": RATE, "prompt": note.prompt, "seed": 0}
    edits = {
        "the file": note.sound,
        "vary, strength 0.3": pipeline.vary(note.sound, 0.3, **given).sounds[0],
        "vary, strength 0.7": pipeline.vary(note.sound, 0.7, **given).sounds[0],
        "inpaint, 0.5 to 1.5 s": pipeline.inpaint(note.sound, 0.5, 1.5, **given).sounds[0],
        "extend its 2 s by 2 s": pipeline.extend(note.sound[: 2 * RATE], 2.0, **given).sounds[0],
    }
    shown = {name: short(sound, RATE, 4.0) for name, sound in edits.items()}
    picture("edits", {note.prompt: [_padded(sound) for sound in shown.values()]}, RATE, list(shown))
    rows = {name: [player(f"edits-{i}", sound, RATE, name)] for i, (name, sound) in enumerate(shown.items())}
    table("edits", [note.prompt, ""], rows)


def _played(pipeline: Pipeline, notes: Sequence[Note], numbers: Sequence[int]) -> list[np.ndarray]:
    """Generates sounds for the prompts of some notes, with the same noise as in the demo."""
    prompts, settings = [note.prompt for note in notes], SampleSettings(seed=0)
    generation = pipeline.generation(settings, prompts, [(i, i) for i in numbers])
    sounds = {number: sound for _, number, sound in generation.run()}
    return [sounds[number] for number in numbers]


def _padded(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound, ((0, max(0, 4 * RATE - len(sound))), (0, 0)))


def _heard(name: str, asked: Sequence[Note], columns: Mapping[str, Sounds]) -> None:
    """Writes a table with a row for each prompt and columns of players. The judges' result is under each player."""
    judge = hearing.of_known()
    rows: dict[str, list[str]] = {note.prompt: [] for note in asked}
    for column, long in columns.items():
        some = [short(sound, RATE, SECONDS) for sound in long]
        # Several tables share the files of real notes.
        folder = "notes" if column == "real" else name
        for note, sound, heard in zip(asked, some, judge.hear(some, asked), strict=True):
            file = f"{folder}-{column}-{note.instrument.replace(' ', '-')}"
            right = (heard.right_pitch, heard.right_instrument)
            marks = [f"{'✓' if one else '✗'} {what}" for one, what in zip(right, str(heard).split(", "), strict=True)]
            label = f"{column}: {note.prompt}"
            rows[note.prompt].append(
                f"{player(file, sound, RATE, label)}<small>{'<br>'.join(map(escape, marks))}</small>"
            )
    table(name, ["prompt", *columns], rows)


if __name__ == "__main__":
    main()
