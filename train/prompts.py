"""Makes text prompts from the tags of music files or from a template, and tokenizes them."""

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
    """Returns the tags that can be in a prompt. If a file has no such tags, the file name becomes the title."""
    known = {name: tags[name] for name in FIELDS if tags.get(name)}
    return known or {"title": " ".join(PurePath(path).stem.replace("_", " ").split())}


def prompt(
    tags: dict[str, str],
    rng: np.random.Generator,
    *,
    drop: float = 0.1,
    position: tuple[int, int] | None = None,
) -> str:
    """Draws a prompt: the tags in random order, joined by spaces or commas. Each tag is left out with probability
    ``drop``.

    Args:
      tags: the result of `describe`. Tags whose names are not in `FIELDS` are ignored.
      rng: the generator of random numbers.
      drop: the probability to leave out each tag. If all tags are left out, the prompt is empty.
      position: (i, n) for crop i of a file with n crops, where i begins at 1. The text "i of n" is then appended to
          every prompt.
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
    """Holds a template of prompts: for each field (the words before it, its name, the probability to leave it out), and
    the words at the end."""

    parts: tuple[tuple[str, str, float], ...]
    end: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name, _ in self.parts)

    @staticmethod
    @cache
    def parse(text: str) -> "Template":
        """Makes a Template from a text such as "{title} by {artist:0.3}". In this text, 0.3 is the probability to leave
        out the artist.

        Raises:
            InputError: the text is not a template.
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

    def fill(self, values: Mapping[str, str | float], rng: np.random.Generator) -> str:
        """Draws a prompt from the template. ``values`` has the values of the fields by name.

        Words between two fields are used if both fields are used. Words at the beginning or the end are used if the
        field next to them is used. If fields in the middle are left out, a comma replaces them and the words around
        them. Without an artist, the prompt in the example of :meth:`parse` thus has no "by".
        """
        draws, text, before = rng.random(len(self.parts)), "", None
        for number, ((words, name, drop), draw) in enumerate(zip(self.parts, draws, strict=True)):
            value = values.get(name)
            if value is None or draw < drop:
                continue
            text += words if number == 0 or before == number - 1 else ", " if text else ""
            text += f"{value:g}" if isinstance(value, float) else value
            before = number
        return (text + (self.end if before == len(self.parts) - 1 else "")).strip()


def tokenizer(model: ModelConfig) -> Tokenize | None:
    """Returns a function from prompts to (tokens int32 [b, n], mask bool [b, n]), or None for a model without text.

    In the first process, the function warns of the first prompt that is too long.
    """
    text = model.text
    if text is None:
        return None
    # This import takes seconds.
    from archijax.text import tokenize, warn_of_cut

    words, warned = text.load_tokenizer(), not processes.leads()

    def tokenized(prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        nonlocal warned
        tokens, mask = tokenize(words, prompts, text.max_length)
        full = mask.all(axis=1)
        warned = warned or warn_of_cut(words, (prompts[row] for row in np.flatnonzero(full)), text.max_length)
        return tokens, mask

    return tokenized
