"""What the library says to its caller: the exception for wrong input, the warning about sound, and how to word them."""

import difflib
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """A setting or an input is wrong. The message is one sentence: what, the value found, what would be right.

    The programs print it without a traceback and exit with status 2.
    """


class InputWarning(UserWarning):
    """An input is used, but not as it stands: a part is lost, or its level is changed. The message is one sentence.

    The programs print each once.
    """


def listed(names: list[str], limit: int = 5, separator: str = ", ") -> str:
    """The first names, and how many more there are, as a part of a sentence."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def suggestion(word: str, known: Iterable[str], otherwise: str, shown: Callable[[str], str] = str) -> str:
    """The end of a sentence about a word that is not among the known ones: the nearest as `shown`, or `otherwise`."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {shown(close[0])}?" if close else otherwise


def require(true: bool, name: str, value: object, right: str) -> None:
    """Raises InputError, naming the setting, its value and what would be right, unless it is true."""
    if not true:
        raise InputError(f"{name} must be {right}, not {value}.")
