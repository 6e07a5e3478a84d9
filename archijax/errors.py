"""The one exception that means the caller, not the library, has something to change."""


class InputError(ValueError):
    """A setting or an input is wrong. The message is one sentence: what, the value found, what would be right.

    The programs print it without a traceback and exit with status 2.
    """
