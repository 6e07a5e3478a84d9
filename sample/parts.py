"""Long sounds by parts as long as those of the training, which overlap and fade into each other, from one noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

OVERLAP = 4  # parts overlap by a quarter of themselves
BLOCK = 256  # rows of noise of one key


class Parts:
    """Makes a long array of another, at a constant amount of memory beside the two.

    Parts overlap by a quarter. Its outer halves are there for a net to hear alone, which knows less at the ends of what
    it is given; in the middle one part fades into the next. Short arrays are one part, and end in what pads it.

    Args:
        make: (pieces [b, length * given, ...], starts int32 [b] in units, progress) -> parts [b, length * made, ...].
        length: units of a part, such as frames of a latent.
        given: rows that go in per unit.
        made: rows that come out per unit.
        batch_size: parts made at once, at most. Batches have sizes that are powers of two, or this one, so that few
            compilations serve sounds of all lengths.
        fading: whether parts fade; else one takes over from the other at once, for what has no mean, such as codes.
        edge: whether what goes in is padded by its last row instead of zeros.
        steps: how often `make` calls progress.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray, np.ndarray, Callable[[], Any]], jax.Array],
        length: int,
        *,
        given: int = 1,
        made: int = 1,
        batch_size: int = 8,
        fading: bool = True,
        edge: bool = False,
        steps: int = 1,
    ):
        self.make, self.length, self.given, self.made = make, length, given, made
        self.batch_size, self.edge, self._steps = batch_size, edge, steps
        overlap = min(length - 1, max(1, length // OVERLAP))
        self.hop = length - overlap
        place = (np.arange(overlap * made) + 0.5) / max(1, overlap * made)
        self._fade = np.clip(2 * place - 0.5, 0, 1).astype(np.float32) if fading else np.float32(place > 0.5)

    def steps(self, rows: int) -> int:
        """How often progress is called for so many rows that go in."""
        count, size = self._count(rows)
        return -(-count // size) * self._steps

    def __call__(self, given: np.ndarray, progress: Callable[[], Any] = lambda: None) -> np.ndarray:
        """What is made of [rows, ...]: [rows / given, rounded up, times made, ...]."""
        count, size = self._count(len(given))
        whole = None
        for first in range(0, count, size):
            # A batch that is not full repeats its last part.
            starts = np.minimum(first + np.arange(size, dtype=np.int32), count - 1) * np.int32(self.hop)
            pieces = np.stack([self._piece(given, start * self.given) for start in starts])
            parts = np.asarray(self.make(pieces, starts, progress))
            if whole is None:
                whole = np.empty((-(-len(given) // self.given) * self.made, *parts.shape[2:]), parts.dtype)
            for start, part in zip(starts[: count - first], parts, strict=False):
                place = whole[start * self.made :][: self.length * self.made]
                over = len(self._fade) if start else 0
                fade = self._fade[:over].reshape(-1, *(1,) * (part.ndim - 1))
                place[:over] += fade * (part[:over] - place[:over])
                place[over:] = part[over : len(place)]
        return whole

    def _count(self, rows: int) -> tuple[int, int]:
        """(parts, how many of them are made at once)."""
        count = 1 + max(0, -(-(-(-rows // self.given) - self.length) // self.hop))
        return count, min(self.batch_size, 1 << (count - 1).bit_length())

    def _piece(self, given: np.ndarray, begin: int) -> np.ndarray:
        piece = given[begin : begin + self.length * self.given]
        missing = self.length * self.given - len(piece)
        padding = ((0, missing), *((0, 0),) * (piece.ndim - 1))
        return np.pad(piece, padding, mode="edge" if self.edge else "constant") if missing else piece


@partial(jax.jit, static_argnums=(2, 3, 4))
def noise(
    key: jax.Array, starts: jax.Array, length: int, shape: tuple[int, ...], draw: Callable = jax.random.normal
) -> jax.Array:
    """Noise [b, length, *shape] of parts of one endless noise that begin at rows int32 [b] of it.

    It depends on the key and the place alone: block j of 256 rows is draw(fold_in(key, j), (256, *shape)).
    """

    def one(start: jax.Array) -> jax.Array:
        first = start // BLOCK
        keys = jax.vmap(lambda block: jax.random.fold_in(key, block))(first + jnp.arange(-(-length // BLOCK) + 1))
        blocks = jax.vmap(lambda key: draw(key, (BLOCK, *shape)))(keys)
        return jax.lax.dynamic_slice_in_dim(blocks.reshape(-1, *shape), start % BLOCK, length)

    return jax.vmap(one)(starts)
