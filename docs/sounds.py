"""python -m docs.sounds (make docs-sounds): the sounds and pictures of the README and the site, by the bundled models.

Seeds are fixed. Nothing is chosen by ear: the prompts are the first of each instrument in demo/real. It writes
docs/media: FLAC files of a few seconds, pictures of their spectrograms, and tables with players, which pages include.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import jax
import numpy as np
import soundfile
from PIL import Image

from archijax.atomic import replacing
from archijax.audio import plots
from archijax.configs import example_batch
from archijax.pretrained import from_pretrained
from benchmarks.sets.instruments import note_name
from demo import hearing
from demo.note import RATE, Note, bundled

MEDIA = Path(__file__).parent / "media"
SHOWN = ("grand piano", "church organ", "electric bass", "cello", "flute", "clarinet")
SECONDS = 2.5  # of each note
SAMPLING = {"sampler": "dpm++", "num_steps": 20, "guidance_scale": 3.5, "seed": 0}
EDITED = 0  # of SHOWN: what the edits start from

Sounds = Sequence[np.ndarray]


def main() -> None:
    MEDIA.mkdir(exist_ok=True)
    pipeline = from_pretrained("notes")
    asked = [next(note for note in bundled() if note.instrument == name) for name in SHOWN]
    real = [note.sound for note in asked]
    prompts = [note.prompt for note in asked]
    generated = pipeline.generate(prompts, **SAMPLING).sounds
    random = pipeline.model.init(jax.random.key(0), example_batch(pipeline.config), pipeline.variables["frozen"])
    untrained = replace(pipeline, variables=random).generate(prompts, **SAMPLING).sounds
    codec = pipeline.halves[1]
    coded = [codec.reconstruct(sound, sample_rate=RATE).sounds[0] for sound in real]

    rows = {"real": real, "generated": generated, "untrained net": untrained}
    short = {name: [_short(sound) for sound in some] for name, some in rows.items()}
    _picture("notes", short, [f"{note.instrument} {note_name(note.pitch)}" for note in asked])
    _table("notes", asked, short)
    _table("codec", asked[2:5], {"real": short["real"][2:5], "coded": [_short(sound) for sound in coded[2:5]]})

    source, prompt = real[EDITED], prompts[EDITED]
    given = {"sample_rate": RATE, "prompt": prompt, **SAMPLING}
    edits = {
        "the file": source,
        "vary, strength 0.3": pipeline.vary(source, 0.3, **given).sounds[0],
        "vary, strength 0.7": pipeline.vary(source, 0.7, **given).sounds[0],
        "inpaint, 0.5 to 1.5 s": pipeline.inpaint(source, 0.5, 1.5, **given).sounds[0],
        "extend by 2 s": pipeline.extend(source[: 2 * RATE], 2.0, **given).sounds[0],
    }
    shown = {name: _short(sound, 4.0) for name, sound in edits.items()}
    _picture("edits", {prompt: [_padded(sound) for sound in shown.values()]}, list(shown))
    cells = "".join(
        f"<tr><td>{name}</td><td>{_player(f'edits-{i}', sound)}</td></tr>\n"
        for i, (name, sound) in enumerate(shown.items())
    )
    _write("edits.html", f"<table>\n<tr><th>{escape(prompt)}</th><th></th></tr>\n{cells}</table>\n")

    size = sum(path.stat().st_size for path in MEDIA.iterdir())
    print(f"{MEDIA}: {len(list(MEDIA.iterdir()))} files, {size / 1e6:.2f} MB")


def _short(sound: np.ndarray, seconds: float = SECONDS) -> np.ndarray:
    """The beginning of a sound, faded out and within full scale."""
    sound = np.array(sound[: round(seconds * RATE)], np.float32)
    fade = min(len(sound), RATE // 5)
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return np.clip(sound, -1, 1)


def _padded(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound, ((0, max(0, 4 * RATE - len(sound))), (0, 0)))


def _table(name: str, asked: Sequence[Note], columns: Mapping[str, Sounds]) -> None:
    """Writes a table with a row for each prompt and a column of players, under each of which stands what is heard."""
    judge = hearing.of_known()
    heads = "".join(f"<th>{column}</th>" for column in ("prompt", *columns))
    lines = ["<table>", f"<tr>{heads}</tr>"]
    heard = {column: judge.hear(some, asked) for column, some in columns.items()}
    for i, note in enumerate(asked):
        cells = ""
        for column, some in columns.items():
            file = f"{name}-{column.split()[0]}-{note.instrument.replace(' ', '-')}"
            one = heard[column][i]
            marks = [
                f"{'✓' if right else '✗'} {what}"
                for right, what in zip((one.right_pitch, one.right_instrument), str(one).split(", "), strict=True)
            ]
            cells += f"<td>{_player(file, some[i])}<small>{'<br>'.join(map(escape, marks))}</small></td>"
        lines.append(f"<tr><td>{escape(note.prompt)}</td>{cells}</tr>")
    _write(f"{name}.html", "\n".join([*lines, "</table>\n"]))


def _player(name: str, sound: np.ndarray) -> str:
    """Writes a sound, 16 bits of which any browser plays; the player for pages of the site."""
    with replacing(MEDIA / f"{name}.flac") as unfinished:
        soundfile.write(unfinished, sound, RATE, subtype="PCM_16", format="FLAC")
    label = escape(name.replace("-", " "))
    return f'<audio controls preload="none" src="media/{name}.flac" aria-label="{label}"></audio>'


def _picture(name: str, rows: Mapping[str, Sounds], columns: Sequence[str]) -> None:
    """Writes spectrograms side by side, in few colours so that the file is small."""
    path = MEDIA / f"{name}.png"
    plots.spectrogram_grid(path, rows, RATE, columns)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
    with replacing(path) as unfinished:
        small.save(unfinished, format="PNG", optimize=True)


def _write(name: str, text: str) -> None:
    with replacing(MEDIA / name) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
