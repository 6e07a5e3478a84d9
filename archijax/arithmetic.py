"""Integer arithmetic for array sizes."""


def ceil_div(size: int, part: int) -> int:
    """size / part, rounded up."""
    return -(-size // part)
