"""Writes a folder of sounds with captions: FLAC files, a text file of captions for each, and one metadata.jsonl.

The folder has the layout of an audio folder on the Hugging Face hub: each line of metadata.jsonl has `file_name` and
the fields of a sound. The captions of `song.flac` are in `song.txt`, one caption per line.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from archijax.atomic import replacing


@dataclass(frozen=True)
class Sound:
    """A sound of a set: name (with folders, without suffix), audio [time, channels], fields, captions."""

    name: str
    audio: np.ndarray
    fields: Mapping[str, object] = field(default_factory=dict)
    captions: Sequence[str] = ()


def write(out: Path, sounds: Iterable[Sound], rate: int) -> tuple[int, float]:
    """Writes each sound as it arrives, and metadata.jsonl at the end. Returns (number of sounds, total hours)."""
    lines, samples = [], 0
    for sound in sounds:
        path = out / f"{sound.name}.flac"
        with replacing(path) as unfinished:
            sf.write(unfinished, sound.audio, rate, format="FLAC", subtype="PCM_16")
        if sound.captions:
            with replacing(path.with_suffix(".txt")) as unfinished:
                unfinished.write_text("\n".join(sound.captions) + "\n", encoding="utf-8")
        lines.append({"file_name": f"{sound.name}.flac", **sound.fields, "captions": list(sound.captions)})
        samples += len(sound.audio)
    with replacing(out / "metadata.jsonl") as unfinished:
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        unfinished.write_text(f"{text}\n", encoding="utf-8")
    return len(lines), samples / rate / 3600
