"""Tokenises texts on the host. These functions cannot run inside a jitted function."""

import logging
import re
import warnings
import zlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from archijax.errors import InputError, InputWarning
from archijax.hub import absent, part, pretrained_folder

# Without PyTorch, transformers logs that its models are not available. Only its tokenizers are used here.
logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in record.getMessage())

from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase  # noqa: E402

_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model", "config.json"]


class Words:
    """A tokenizer whose tokens are words, digits and punctuation marks. This tokenizer needs no file.

    The id of a token is a hash, so two words can have the same id. Only single letters keep their case, because "A" can
    be a note and "a" can be an article. "Db4" has the tokens db and 4, and "C#4" has the tokens c# and 4.
    """

    pad_token_id, eos_token_id = 0, 1
    _token = re.compile(r"[^\W\d_]+#?|\d|[^\w\s]")

    def __len__(self) -> int:
        return 4096

    def __call__(
        self, texts: str | list[str], *, max_length: int = 0, add_special_tokens: bool = True, **_: Any
    ) -> dict[str, Any]:
        """Returns {"input_ids": a list of ids without the end token} for one text. For a list of texts, returns a dict
        of "input_ids" and "attention_mask", both int32 [b, max_length], with the end token and padding."""
        if isinstance(texts, str):
            return {"input_ids": self._ids(texts)}
        tokens = np.full((len(texts), max_length), self.pad_token_id, np.int32)
        mask = np.zeros((len(texts), max_length), np.int32)
        for row, text in enumerate(texts):
            ids = [*self._ids(text)[: max_length - 1], self.eos_token_id]
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        return {"input_ids": tokens, "attention_mask": mask}

    def _ids(self, text: str) -> list[int]:
        words = [word if len(word) == 1 else word.lower() for word in self._token.findall(text)]
        return [2 + zlib.crc32(word.encode()) % (len(self) - 2) for word in words]


class Extended:
    """A tokenizer with additional words. The word ``placeholder_tokens[i]`` has the id ``-1 - i``.

    The ids of a vocabulary are 0 or more, so the negative ids are new for every pretrained encoder.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase | Words, placeholder_tokens: tuple[str, ...]):
        self.tokenizer, self.ids = tokenizer, {word: -1 - i for i, word in enumerate(placeholder_tokens)}
        # If several words match, the longest word is taken.
        longest = sorted(map(re.escape, placeholder_tokens), key=len, reverse=True)
        self.pattern = re.compile(f"({'|'.join(longest)})")

    def __call__(self, texts: list[str], *, max_length: int, **settings: Any) -> dict[str, np.ndarray]:
        """Returns a dict of "input_ids" and "attention_mask", both [b, max_length]. The word ``placeholder_tokens[i]``
        gets the id ``-1 - i``. :func:`tokenize` passes the ``settings`` that a pretrained tokenizer needs."""
        encoded = self.tokenizer(texts, max_length=max_length, **settings)
        tokens, mask = encoded["input_ids"], encoded["attention_mask"]
        for row, text in enumerate(texts):
            pieces = self.pattern.split(text)
            if len(pieces) == 1:
                continue
            ids = [token for piece in pieces if piece for token in self._piece(piece)][: max_length - 1]
            ids.append(self.tokenizer.eos_token_id)
            tokens[row], mask[row] = self.tokenizer.pad_token_id, 0
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        return {"input_ids": tokens, "attention_mask": mask}

    def _piece(self, piece: str) -> list[int]:
        if piece in self.ids:
            return [self.ids[piece]]
        return self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def load_tokenizer(
    name: str | Path, revision: str | None = None, placeholder_tokens: tuple[str, ...] = ()
) -> PreTrainedTokenizerBase | Words | Extended:
    """Loads the tokenizer of a T5 model, for :func:`tokenize`.

    Args:
        name: "words" (see :class:`Words`), "bytes", a folder, or a hub name such as "t5-base". "words" and "bytes" need
            no files. With "bytes", an id is a byte of UTF-8 plus 3. The id 0 is the padding, and the id 1 is the end
            token. The 259 ids are the ids of ByT5 without the 125 unused sentinels, so ByT5 (vocab_size 384) can read
            these ids too.
        revision: a branch, tag or commit on the hub; None: the main branch.
        placeholder_tokens: additional words for the vocabulary. The word ``placeholder_tokens[i]`` gets the id
            ``-1 - i``.

    Raises:
        InputError: the tokenizer is missing or damaged.
    """
    if placeholder_tokens:
        return Extended(load_tokenizer(name, revision), placeholder_tokens)
    if name == "words":
        return Words()
    if name == "bytes":
        return ByT5Tokenizer(extra_ids=0)
    folder = part(pretrained_folder(name, revision, [*_FILES, "model_index.json", "tokenizer/*"]), "tokenizer")
    quick, slow = (folder / "tokenizer.json").is_file(), (folder / "spiece.model").is_file()
    if slow and not quick and find_spec("sentencepiece") is None:
        raise InputError(f"{folder} has spiece.model but no tokenizer.json: pip install sentencepiece to read it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers package raises bare Exceptions
        if quick or slow:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"the tokenizer in {folder} cannot be read ({reason})") from error
        tokenizer = None
    # Without a vocabulary, transformers silently makes an empty T5 tokenizer. Only bytes need no vocabulary.
    if not (quick or slow or isinstance(tokenizer, ByT5Tokenizer)):
        raise InputError(absent(name, folder, _FILES[:-1]))
    return tokenizer


def tokenize(
    tokenizer: PreTrainedTokenizerBase | Words | Extended, texts: list[str], max_length: int
) -> tuple[Int32[np.ndarray, "b {max_length}"], Bool[np.ndarray, "b {max_length}"]]:
    """Turns a batch of texts into token ids. Each row has the ids of a text, the end token and padding. Texts that are
    too long for ``max_length`` are cut.

    The name of a special token in a text, such as "</s>", is encoded like other characters.

    Args:
        tokenizer: the result of `load_tokenizer`.
        texts: at least one text. An empty text becomes the end token alone.
        max_length: the number of tokens per text, including the end token.

    Returns:
        (the ids, a mask that is False for padding).

    Raises:
        InputError: there is no text, a text is not a string of valid Unicode, or `max_length` is below 1.
    """
    if isinstance(texts, str) or not texts:
        raise InputError(f"texts is {texts!r}: it must be a list of at least one string")
    if max_length < 1:
        raise InputError(f"max_length is {max_length}: it must be at least 1")
    for text in texts:
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise InputError(f"text {text!r} is not a string of valid Unicode") from None
    encoded = tokenizer(
        list(texts),
        max_length=max_length,
        padding="max_length",
        truncation=True,
        split_special_tokens=True,
        return_tensors="np",
    )
    return encoded["input_ids"].astype(np.int32), encoded["attention_mask"].astype(bool)


def warn_of_cut(tokenizer: PreTrainedTokenizerBase | Words | Extended, texts: Iterable[str], max_length: int) -> bool:
    """Warns (InputWarning) of the first text that `tokenize` would cut. Returns whether there is such a text."""

    def length(text: str) -> int:
        most = 4 * len(text) + 16  # a character is four bytes at most
        form = {"padding": "max_length", "truncation": True, "split_special_tokens": True, "return_tensors": "np"}
        return int(tokenizer([text], max_length=most, **form)["attention_mask"].sum())

    for text in texts:
        if (tokens := length(text)) > max_length:
            kept = next(end for end in reversed(range(len(text))) if length(text[:end]) <= max_length)
            warnings.warn(
                f"A prompt has {tokens} tokens, but the model reads {max_length}: the end {text[kept:]!r} of {text!r} "
                "is cut off. Use shorter prompts, or train with a larger model.text.max_length.",
                InputWarning,
                stacklevel=2,
            )
            return True
    return False
