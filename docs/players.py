"""Writes the sounds, players and pictures of the site to docs/media."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from archijax.atomic import replacing
from archijax.audio import plots

MEDIA = Path(__file__).parent / "media"

Sounds = Sequence[np.ndarray]


def short(sound: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Returns the beginning of a sound [time, channels], within full scale. The last fifth of a second fades out."""
    sound = np.array(sound[: round(seconds * rate)], np.float32)
    fade = min(len(sound), rate // 5)
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return np.clip(sound, -1, 1)


def player(name: str, sound: np.ndarray, rate: int, label: str) -> str:
    """Writes a sound with 16 bits, which any browser plays. Returns the HTML of its player."""
    with replacing(MEDIA / f"{name}.flac") as unfinished:
        soundfile.write(unfinished, sound, rate, subtype="PCM_16", format="FLAC")
    return f'<audio controls preload="none" src="media/{name}.flac" aria-label="{escape(label)}"></audio>'


def picture(name: str, rows: Mapping[str, Sounds], rate: int, columns: Sequence[str]) -> None:
    """Writes spectrograms side by side. Few colours keep the file small."""
    path = MEDIA / f"{name}.png"
    plots.spectrogram_grid(path, rows, rate, columns)
    with Image.open(path) as drawn:
        small = drawn.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    with replacing(path) as unfinished:
        small.save(unfinished, format="PNG", optimize=True)


def table(name: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Writes a table that pages include. The first cell of each row is the row's name, the others are HTML."""
    lines = ['<table class="sounds">', f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"]
    for row, cells in rows.items():
        marked = "".join(
            f'<td data-label="{escape(head)}">{cell}</td>' for head, cell in zip(heads[1:], cells, strict=True)
        )
        lines.append(f"<tr><td>{escape(row)}</td>{marked}</tr>")
    with replacing(MEDIA / f"{name}.html") as unfinished:
        unfinished.write_text("\n".join([*lines, "</table>\n"]), encoding="utf-8")


def report() -> None:
    size = sum(path.stat().st_size for path in MEDIA.iterdir())
    print(f"{MEDIA}: {len(list(MEDIA.iterdir()))} files, {size / 1e6:.2f} MB")
