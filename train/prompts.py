"""Text prompts from the tags of music files, as in the thesis (section on text conditioning), and their tokens."""

from collections.abc import Callable
from pathlib import PurePath

import numpy as np

from archijax.contract import ModelConfig
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
