"""Long sounds by parts as long as those of the training, which overlap and fade into each other, from one noise."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import require
from archijax.pipeline.driver import Progress, silent

OVERLAP = 4  # parts overlap by a quarter of themselves
BLOCK = 256  # rows of noise of one key


class Parts:
    """Maps a long array to another, at a constant amount of memory beside the two.

    Parts overlap by a quarter. A net knows less at the ends of its input, so the outer halves of an overlap are one
    part's alone; in the middle one part fades into the next. Short arrays are one part, and end in padding.

    Args:
        make: (pieces [b, length * rows_in, ...], starts int32 [b] in units, progress) -> parts
            [b, length * rows_out, ...].
        length: units of a part, such as frames of a latent.
        rows_in, rows_out: rows of the input and of the output in a unit.
        batch_size: parts made at once, at most. Batches have sizes that are powers of two, or this one, so that few
            compilations serve sounds of all lengths.
        fading: whether parts fade; else one takes over from the other at once, for what has no mean, such as codes.
        edge: whether the input is padded by its last row instead of zeros.
        steps: how many steps `make` reports as progress.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray, np.ndarray, Progress], jax.Array],
        length: int,
        *,
        rows_in: int = 1,
        rows_out: int = 1,
        batch_size: int = 8,
        fading: bool = True,
        edge: bool = False,
        steps: int = 1,
    ):
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        self.make, self.length, self.rows_in, self.rows_out = make, length, rows_in, rows_out
        self.batch_size, self.edge, self._steps = batch_size, edge, steps
        overlap = min(length - 1, max(1, length // OVERLAP))
        self.hop = length - overlap
        place = (np.arange(overlap * rows_out) + 0.5) / max(1, overlap * rows_out)
        self._fade = np.clip(2 * place - 0.5, 0, 1).astype(np.float32) if fading else np.float32(place > 0.5)

    def steps(self, rows: int) -> int:
        """Steps that so many rows of input take."""
        count, size = self._count(rows)
        return ceil_div(count, size) * self._steps

    def __call__(self, rows: np.ndarray, progress: Progress = silent) -> np.ndarray:
        """The output [rows / rows_in, rounded up, times rows_out, ...] of an input [rows, ...]."""
        count, size = self._count(len(rows))
        whole = None
        for first in range(0, count, size):
            # A batch that is not full repeats its last part.
            starts = np.minimum(first + np.arange(size, dtype=np.int32), count - 1) * np.int32(self.hop)
            pieces = np.stack([self._piece(rows, start * self.rows_in) for start in starts])
            parts = np.asarray(self.make(pieces, starts, progress))
            if whole is None:
                whole = np.empty((ceil_div(len(rows), self.rows_in) * self.rows_out, *parts.shape[2:]), parts.dtype)
            for start, part in zip(starts[: count - first], parts, strict=False):
                place = whole[start * self.rows_out :][: self.length * self.rows_out]
                over = len(self._fade) if start else 0
                fade = self._fade[:over].reshape(-1, *(1,) * (part.ndim - 1))
                place[:over] += fade * (part[:over] - place[:over])
                place[over:] = part[over : len(place)]
        return whole

    def _count(self, rows: int) -> tuple[int, int]:
        """(parts, how many of them are made at once)."""
        count = 1 + max(0, ceil_div(ceil_div(rows, self.rows_in) - self.length, self.hop))
        return count, min(self.batch_size, 1 << (count - 1).bit_length())

    def _piece(self, rows: np.ndarray, begin: int) -> np.ndarray:
        piece = rows[begin : begin + self.length * self.rows_in]
        missing = self.length * self.rows_in - len(piece)
        padding = ((0, missing), *((0, 0),) * (piece.ndim - 1))
        return np.pad(piece, padding, mode="edge" if self.edge else "constant") if missing else piece


@partial(jax.jit, static_argnums=(2, 3))
def noise(key: jax.Array, starts: jax.Array, length: int, channels: int) -> jax.Array:
    """Noise [b, length, channels] of parts of one endless noise that begin at rows int32 [b] of it.

    It depends on the key and the place alone: block j of 256 rows is normal(fold_in(key, j), (256, channels)).
    """

    def one(start: jax.Array) -> jax.Array:
        first = start // BLOCK
        keys = jax.vmap(lambda block: jax.random.fold_in(key, block))(first + jnp.arange(ceil_div(length, BLOCK) + 1))
        blocks = jax.vmap(lambda key: jax.random.normal(key, (BLOCK, channels)))(keys)
        return jax.lax.dynamic_slice_in_dim(blocks.reshape(-1, channels), start % BLOCK, length)

    return jax.vmap(one)(starts)
