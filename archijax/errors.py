"""Defines an exception for wrong input, a warning about changed input, and functions that write messages."""

import difflib
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """A setting or an input is wrong. The message is one sentence with the name of the setting, the wrong value and a
    right value.

    The command line programs print the message without a traceback and exit with status 2.
    """


class InputWarning(UserWarning):
    """An input was changed before it was used: a part was cut off, or the level was changed. The message is one
    sentence.

    The command line programs print each message once.
    """


def listed(names: list[str], limit: int = 5, separator: str = ", ") -> str:
    """Returns the first ``limit`` names as one text. If there are more names, the text says how many, as in "a, b and 3
    more"."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def suggestion(word: str, known: Iterable[str], otherwise: str, shown: Callable[[str], str] = str) -> str:
    """Returns "did you mean WORD?" with the known word that is most similar to ``word``. If no known word is similar,
    the result is ``otherwise``.

    Args:
        shown: a function from the known word to the text WORD in the result.
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {shown(close[0])}?" if close else otherwise


def require(valid: bool, name: str, value: object, right: str) -> None:
    """Raises InputError with the message "NAME must be RIGHT, not VALUE." if ``valid`` is False."""
    if not valid:
        raise InputError(f"{name} must be {right}, not {value}.")
