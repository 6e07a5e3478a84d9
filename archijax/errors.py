"""The exception for wrong input, the warning about changed input, and functions that write their messages."""

import difflib
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """A setting or an input is wrong. The message is one sentence: what is wrong, its value, and what would be right.

    The programs print it without a traceback and exit with status 2.
    """


class InputWarning(UserWarning):
    """An input is used with a change: a part of it is lost, or its level is changed. The message is one sentence.

    The programs print each message once.
    """


def listed(names: list[str], limit: int = 5, separator: str = ", ") -> str:
    """The first names and the number of the other names, as a part of a sentence."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def suggestion(word: str, known: Iterable[str], otherwise: str, shown: Callable[[str], str] = str) -> str:
    """The end of a sentence about an unknown word: "did you mean" and the most similar known word, or ``otherwise``.

    Args:
        shown: formats the known word.
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {shown(close[0])}?" if close else otherwise


def require(valid: bool, name: str, value: object, right: str) -> None:
    """Raises InputError with the name of a setting, its value and the right values, unless it is valid."""
    if not valid:
        raise InputError(f"{name} must be {right}, not {value}.")
