"""Arithmetic of sizes."""


def ceil_div(size: int, part: int) -> int:
    """The number of parts that hold a size: their ratio, rounded up."""
    return -(-size // part)
