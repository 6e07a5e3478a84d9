"""Text prompts from the tags of music files, as in the thesis (section on text conditioning), or by a template.

Also their tokens.
"""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

import numpy as np

from archijax.contract import ModelConfig
from archijax.errors import InputError
from archijax.training import processes

Tokenize = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]

FIELDS = ("title", "artist", "album", "genre", "year")


def describe(tags: dict[str, str], path: str) -> dict[str, str]:
    """The tags that make a prompt; a file that has none of them is titled by the words of its name."""
    known = {name: tags[name] for name in FIELDS if tags.get(name)}
    return known or {"title": " ".join(PurePath(path).stem.replace("_", " ").split())}


def prompt(
    tags: dict[str, str],
    rng: np.random.Generator,
    *,
    drop: float = 0.1,
    position: tuple[int, int] | None = None,
) -> str:
    """Draws a prompt: the tags in random order, each left out with probability ``drop``, joined by spaces or by commas.

    Args:
      tags: as `describe` returns them; names outside of `FIELDS` are ignored.
      rng: makes the draws.
      drop: probability to leave a tag out. All may go: the empty prompt describes nothing.
      position: (i, n), counted from 1, appends "i of n": the place of a crop in its file. It is never left out.
    """
    words = [tags[name] for name in FIELDS if tags.get(name)]
    order, kept = rng.permutation(len(words)), rng.random(len(words)) >= drop
    joint = " " if rng.random() < 0.5 else ", "
    parts = [words[i] for i in order if kept[i]]
    if position:
        parts.append(f"{position[0]} of {position[1]}")
    return joint.join(parts)


@dataclass(frozen=True)
class Template:
    """How a prompt is put together: (words before it, name, probability to leave it out) of each field, words after."""

    parts: tuple[tuple[str, str, float], ...]
    end: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name, _ in self.parts)

    @staticmethod
    @cache
    def parse(text: str) -> "Template":
        """A template such as "{title} by {artist:0.3}": the number is the probability to leave the artist out.

        Raises InputError for anything else.
        """
        parts, end = [], ""
        try:
            for words, name, drop, conversion in string.Formatter().parse(text):
                if name is None:
                    end = words
                    continue
                probability = float(drop or 0)
                if not name.strip() or conversion or not 0 <= probability <= 1:
                    raise ValueError
                parts.append((words, name, probability))
        except ValueError:
            parts = []
        if not parts:
            raise InputError(f'data.template is "{text}", but must name fields as "{{title}} by {{artist:0.1}}" does.')
        return Template(tuple(parts), end)

    def fill(self, known: Mapping[str, str | float], rng: np.random.Generator) -> str:
        """Draws a prompt of what is known.

        Words between two fields stand where both do, a comma where fields between them are left out; words at the
        beginning go with the first field, those at the end with the last. So no "by" stands alone.
        """
        draws, text, before = rng.random(len(self.parts)), "", None
        for number, ((words, name, drop), draw) in enumerate(zip(self.parts, draws, strict=True)):
            value = known.get(name)
            if value is None or draw < drop:
                continue
            text += words if number == 0 or before == number - 1 else ", " if text else ""
            text += f"{value:g}" if isinstance(value, float) else value
            before = number
        return (text + (self.end if before == len(self.parts) - 1 else "")).strip()


def tokenizer(model: ModelConfig) -> Tokenize | None:
    """From prompts to tokens int32 [b, n] and mask bool [b, n], as a model's configuration says; None without text.

    Warns of the first prompt that is too long, in the first of several processes.
    """
    text = model.text
    if text is None:
        return None
    # Takes seconds to import.
    from archijax.text import tokenize, warn_of_cut

    words, warned = text.load_tokenizer(), not processes.leads()

    def tokenized(prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        nonlocal warned
        tokens, mask = tokenize(words, prompts, text.max_length)
        full = mask.all(axis=1)
        warned = warned or warn_of_cut(words, (prompts[row] for row in np.flatnonzero(full)), text.max_length)
        return tokens, mask

    return tokenized
