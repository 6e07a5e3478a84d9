"""What people may say of a sound: the same fact in varied words."""

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
    """One of the words."""
    return words[int(rng.integers(len(words)))]


def spelled(rng: np.random.Generator, pitch_class: int, octave: int | None = None) -> str:
    """A pitch as people write it, such as C5, C#5, C sharp 5, Db5 or D flat 5; without an octave its class."""
    name = NAMES[pitch_class]
    end = "" if octave is None else str(octave)
    if len(name) == 1:
        return name + end
    flat = FLATS[name]
    space = " " if end else ""
    return choose(rng, (name + end, f"{name[0]} sharp{space}{end}", f"{flat}b{end}", f"{flat} flat{space}{end}"))


def filled(template: str, words: Mapping[str, str]) -> str:
    """A template with its words, of which some may be empty: spaces, commas, articles and plurals come right."""
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
    """So many different captions: each from another template and the next of the words, which are at least as many."""
    order = rng.permutation(len(templates))
    captions: dict[str, None] = {}
    for i, index in enumerate(order):
        captions.setdefault(filled(templates[index], words[i % len(words)]))
        if len(captions) == count:
            break
    return list(captions)
