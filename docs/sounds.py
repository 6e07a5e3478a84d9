"""python -m docs.sounds (make docs-sounds): the sounds and pictures of the README and the site, by the bundled models.

The sounds are a subset of the results of `make demo`, with the same prompts, seed and settings. No sound was selected
by listening. The program writes docs/media: FLAC files of a few seconds, pictures of their spectrograms, and tables
with players, which pages include.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from archijax.atomic import replacing
from archijax.audio import plots
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pretrained import from_pretrained
from benchmarks.sets.instruments import note_name
from demo import hearing
from demo.note import RATE, Note, bundled

MEDIA = Path(__file__).parent / "media"
SHOWN = ("grand piano", "church organ", "electric bass", "cello", "flute", "clarinet")
SECONDS = 2.5  # length of each note in seconds
CODED = slice(2, 5)  # indices in SHOWN: notes for the codec
EDITED = 0  # index in SHOWN: note for the edits

Sounds = Sequence[np.ndarray]


def main() -> None:
    MEDIA.mkdir(exist_ok=True)
    pipeline, notes = from_pretrained("notes"), bundled()
    numbers = [i for name in SHOWN for i, note in enumerate(notes) if note.instrument == name]
    asked = [notes[i] for i in numbers]
    real = [note.sound for note in asked]
    show_notes(asked, real, _played(pipeline, notes, numbers), _played(pipeline.untrained(), notes, numbers))
    codec = pipeline.halves[1]
    show_codec(
        asked[CODED], real[CODED], [codec.reconstruct(sound, sample_rate=RATE).sounds[0] for sound in real[CODED]]
    )
    show_edits(pipeline, asked[EDITED])
    size = sum(path.stat().st_size for path in MEDIA.iterdir())
    print(f"{MEDIA}: {len(list(MEDIA.iterdir()))} files, {size / 1e6:.2f} MB")


def show_notes(asked: Sequence[Note], real: Sounds, generated: Sounds, untrained: Sounds) -> None:
    """Writes real and generated notes: files, their picture, their table."""
    rows = {"real": real, "generated": generated, "untrained net": untrained}
    short = {name: [_short(sound) for sound in some] for name, some in rows.items()}
    _picture("notes", short, [f"{note.instrument} {note_name(note.pitch)}" for note in asked])
    _table("notes", asked, short)


def show_codec(asked: Sequence[Note], real: Sounds, coded: Sounds) -> None:
    """Writes notes before and after the codec."""
    rows = {"real": real, "coded": coded}
    _table("codec", asked, {name: [_short(sound) for sound in some] for name, some in rows.items()})


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
    shown = {name: _short(sound, 4.0) for name, sound in edits.items()}
    _picture("edits", {note.prompt: [_padded(sound) for sound in shown.values()]}, list(shown))
    cells = "".join(
        f"<tr><td>{name}</td><td>{_player(f'edits-{i}', sound, name)}</td></tr>\n"
        for i, (name, sound) in enumerate(shown.items())
    )
    _write("edits.html", f'<table class="sounds">\n<tr><th>{escape(note.prompt)}</th><th></th></tr>\n{cells}</table>\n')


def _played(pipeline: Pipeline, notes: Sequence[Note], numbers: Sequence[int]) -> list[np.ndarray]:
    """Generates sounds for the prompts of some notes, with the same noise as in the demo."""
    prompts, settings = [note.prompt for note in notes], SampleSettings(seed=0)
    generation = pipeline.generation(settings, prompts, [(i, i) for i in numbers])
    sounds = {number: sound for _, number, sound in generation.run()}
    return [sounds[number] for number in numbers]


def _short(sound: np.ndarray, seconds: float = SECONDS) -> np.ndarray:
    """The beginning of a sound with a fade-out, within full scale."""
    sound = np.array(sound[: round(seconds * RATE)], np.float32)
    fade = min(len(sound), RATE // 5)
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return np.clip(sound, -1, 1)


def _padded(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound, ((0, max(0, 4 * RATE - len(sound))), (0, 0)))


def _table(name: str, asked: Sequence[Note], columns: Mapping[str, Sounds]) -> None:
    """Writes a table with a row for each prompt and columns of players. The judges' result is under each player."""
    judge = hearing.of_known()
    heads = "".join(f"<th>{column}</th>" for column in ("prompt", *columns))
    lines = ['<table class="sounds">', f"<tr>{heads}</tr>"]
    heard = {column: judge.hear(some, asked) for column, some in columns.items()}
    for i, note in enumerate(asked):
        cells = ""
        for column, some in columns.items():
            # Several tables share the files of real notes.
            file = f"{'notes' if column == 'real' else name}-{column.split()[0]}-{note.instrument.replace(' ', '-')}"
            one = heard[column][i]
            marks = [
                f"{'✓' if right else '✗'} {what}"
                for right, what in zip((one.right_pitch, one.right_instrument), str(one).split(", "), strict=True)
            ]
            player = _player(file, some[i], f"{column}: {note.prompt}")
            cells += f'<td data-label="{column}">{player}<small>{"<br>".join(map(escape, marks))}</small></td>'
        lines.append(f"<tr><td>{escape(note.prompt)}</td>{cells}</tr>")
    _write(f"{name}.html", "\n".join([*lines, "</table>\n"]))


def _player(name: str, sound: np.ndarray, label: str) -> str:
    """Writes a sound with 16 bits, which any browser plays. Returns the HTML of its player."""
    with replacing(MEDIA / f"{name}.flac") as unfinished:
        soundfile.write(unfinished, sound, RATE, subtype="PCM_16", format="FLAC")
    return f'<audio controls preload="none" src="media/{name}.flac" aria-label="{escape(label)}"></audio>'


def _picture(name: str, rows: Mapping[str, Sounds], columns: Sequence[str]) -> None:
    """Writes spectrograms side by side. Few colours keep the file small."""
    path = MEDIA / f"{name}.png"
    plots.spectrogram_grid(path, rows, RATE, columns)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    with replacing(path) as unfinished:
        small.save(unfinished, format="PNG", optimize=True)


def _write(name: str, text: str) -> None:
    with replacing(MEDIA / name) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
