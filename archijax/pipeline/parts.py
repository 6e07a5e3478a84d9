"""Processes long sounds in overlapping parts of the training length, and draws the noise of the parts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from archijax.arithmetic import ceil_div
from archijax.errors import require
from archijax.pipeline.driver import Progress, silent

OVERLAP = 4  # the overlap of parts is a quarter of their length
BLOCK = 256  # rows of noise that one key draws


class Parts:
    """Maps a long array to another array, part by part. Besides the two arrays, only constant memory is needed.

    Neighbouring parts overlap by a quarter of their length. A net is less exact at the ends of its input. The first
    quarter of an overlap therefore comes from the earlier part alone, and the last quarter comes from the later part
    alone. In the middle of the overlap, the earlier part fades into the later part. An array that is shorter than a
    part is padded at the end.

    Args:
        make: a function (pieces, starts, progress) -> parts [b, length * rows_out, ...]. The pieces
            [b, length * rows_in, ...] are parts of the input. Piece k begins at row ``starts[k] * rows_in`` of the
            input. starts is int32 [b].
        length: the number of units in a part. A unit is, for example, a frame of a latent.
        rows_in, rows_out: the number of rows per unit, in the input and in the output.
        batch_size: the largest number of parts in one call of ``make``. The size of a batch is either this number or a
            power of two. Sounds of all lengths thus need few compilations.
        fading: whether parts fade into each other. False: the result switches to the later part in the middle of the
            overlap.
        edge: whether the padding repeats the last row of the input. False: the padding is zeros.
        steps: the number of steps that ``make`` reports as progress.

    Raises:
        InputError: batch_size is below 1.
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
        position = (np.arange(overlap * rows_out) + 0.5) / max(1, overlap * rows_out)
        self._fade = np.clip(2 * position - 0.5, 0, 1).astype(np.float32) if fading else np.float32(position > 0.5)

    def steps(self, rows: int) -> int:
        """Returns the number of steps that are reported as progress for an input with ``rows`` rows."""
        count, size = self._count(rows)
        return ceil_div(count, size) * self._steps

    def __call__(
        self, rows: Shaped[np.ndarray, " rows *row"], progress: Progress = silent
    ) -> Shaped[np.ndarray, " -(-rows//{self.rows_in})*{self.rows_out} *out"]:
        """Maps an input array [rows, ...] to the output array [ceil(rows / rows_in) * rows_out, ...]."""
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
                target = whole[start * self.rows_out :][: self.length * self.rows_out]
                over = len(self._fade) if start else 0
                fade = self._fade[:over].reshape(-1, *(1,) * (part.ndim - 1))
                target[:over] += fade * (part[:over] - target[:over])
                target[over:] = part[over : len(target)]
        return whole

    def _count(self, rows: int) -> tuple[int, int]:
        """Returns (the number of parts, the number of parts in a batch)."""
        count = 1 + max(0, ceil_div(ceil_div(rows, self.rows_in) - self.length, self.hop))
        return count, min(self.batch_size, 1 << (count - 1).bit_length())

    def _piece(self, rows: Shaped[np.ndarray, " rows *row"], begin: Any) -> Shaped[np.ndarray, " piece *row"]:
        piece = rows[begin : begin + self.length * self.rows_in]
        missing = self.length * self.rows_in - len(piece)
        padding = ((0, missing), *((0, 0),) * (piece.ndim - 1))
        return np.pad(piece, padding, mode="edge" if self.edge else "constant") if missing else piece


@partial(jax.jit, static_argnums=(2, 3))
def noise(
    key: Key[Array, ""], starts: Int[Array, " b"], length: int, channels: int
) -> Float[Array, "b {length} {channels}"]:
    """Returns b sections of one endless sequence of standard normal noise. Section k begins at row ``starts[k]`` of the
    sequence.

    The noise depends only on the key and the row: block j of 256 rows is ``normal(fold_in(key, j), (256, channels))``.
    """

    def one(start: Int[Array, ""]) -> Float[Array, "_ _"]:
        first = start // BLOCK
        keys = jax.vmap(lambda block: jax.random.fold_in(key, block))(first + jnp.arange(ceil_div(length, BLOCK) + 1))
        blocks = jax.vmap(lambda key: jax.random.normal(key, (BLOCK, channels)))(keys)
        return jax.lax.dynamic_slice_in_dim(blocks.reshape(-1, channels), start % BLOCK, length)

    return jax.vmap(one)(starts)
