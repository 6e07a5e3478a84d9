"""Defines integer arithmetic for array sizes."""


def ceil_div(size: int, part: int) -> int:
    """Returns ``size / part``, rounded up to an integer."""
    return -(-size // part)
