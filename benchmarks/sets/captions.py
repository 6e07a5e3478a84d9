"""Writes captions that state the same facts in varied words."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.sets.instruments import NAMES

FLATS = {"C#": "D", "D#": "E", "F#": "G", "G#": "A", "A#": "B"}
SOFT = (("soft", "softly"), ("quiet", "quietly"), ("gentle", "gently"))
LOUD = (("loud", "loudly"), ("strong", "strongly"), ("forceful", "forcefully"))
PLURAL = re.compile(r"\b(?:strings|voices|vibes|bells|pan pipes|oohs|brass)$")
SHORT, LONG = ("short", "brief"), ("long", "sustained")


def choose(rng: np.random.Generator, words: Sequence[str]) -> str:
    """Returns one of the words, drawn at random."""
    return words[int(rng.integers(len(words)))]


def spelled(rng: np.random.Generator, pitch_class: int, octave: int | None = None) -> str:
    """Draws a spelling of a pitch, such as C#5, C sharp 5 or D flat 5; without an octave, such as C# or D flat."""
    name = NAMES[pitch_class]
    end = "" if octave is None else str(octave)
    if len(name) == 1:
        return name + end
    flat = FLATS[name]
    space = " " if end else ""
    return choose(rng, (name + end, f"{name[0]} sharp{space}{end}", f"{flat}b{end}", f"{flat} flat{space}{end}"))


def filled(template: str, words: Mapping[str, str]) -> str:
    """Fills a template with words, some of which can be empty. Corrects spaces, commas, articles and plurals."""
    if PLURAL.search(words.get("instrument", "")):
        for singular in ("a {instrument}", "a {soft} {instrument}"):
            template = template.replace(singular, singular[2:])
        template = template.replace("{instrument} plays", "{instrument} play")
    text = re.sub(r"\s+", " ", template.format_map(words)).strip(" ,")
    text = re.sub(r"(?: ?,)+", ",", text)
    return re.sub(r"\ba (?=[aeiouAEIO]|F(?![a-z]))", "an ", text)


def varied(
    rng: np.random.Generator, templates: Sequence[str], count: int, words: Sequence[Mapping[str, str]]
) -> list[str]:
    """Returns ``count`` different captions, from different templates. ``words`` are used in turn and must suffice."""
    order = rng.permutation(len(templates))
    captions: dict[str, None] = {}
    for i, index in enumerate(order):
        captions.setdefault(filled(templates[index], words[i % len(words)]))
        if len(captions) == count:
            break
    return list(captions)
