"""The exception for wrong input, the warning about changed input, and functions that write their messages."""

import difflib
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """A setting or an input is wrong. The message is one sentence: what is wrong, its value, and what would be right.

    The programs print the message without a traceback and exit with status 2.
    """


class InputWarning(UserWarning):
    """An input was changed before its use: a part is lost, or the level is different. The message is one sentence.

    The programs print each message once.
    """


def listed(names: list[str], limit: int = 5, separator: str = ", ") -> str:
    """Returns a part of a sentence that lists the first ``limit`` names and says how many more there are."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def suggestion(word: str, known: Iterable[str], otherwise: str, shown: Callable[[str], str] = str) -> str:
    """Returns the end of a sentence about an unknown word: "did you mean" with the most similar known word, or
    ``otherwise``.

    Args:
        shown: a function that formats the known word for the sentence.
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {shown(close[0])}?" if close else otherwise


def require(valid: bool, name: str, value: object, right: str) -> None:
    """Raises InputError unless ``valid``. The message has the name of a setting, its value, and what would be right."""
    if not valid:
        raise InputError(f"{name} must be {right}, not {value}.")
