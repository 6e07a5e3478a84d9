"""Encoding and decoding of long sounds block by block, equal to the whole, in memory that does not grow with them.

A block is coded together with as many frames on either side as the codec says that it depends on (`codec.overlap`),
and what these give is dropped. All blocks have one shape, so that a codec is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.errors import require


def encode_by_blocks(codec: Any, variables: dict[str, Any], audio: np.ndarray, block: int = 256) -> np.ndarray:
    """The latent [b, frames, channels] of sounds [b, time, c], as ``codec.encode`` without keys gives it.

    Args:
        codec: one with a finite `overlap`, such as :class:`archijax.AutoEncoder` of an STFT's frames.
        variables: its variables.
        audio: of any time; the sound is taken to be silent after its end.
        block: frames of a block, beside the overlap.

    Raises:
        InputError: block below 1, or a codec whose overlap is not finite.
    """
    factor = codec.downsample_factor
    frames = ceil_div(audio.shape[1], factor)
    encode = _compiled(codec, "encode")

    def part(start: int, end: int) -> np.ndarray:
        piece = np.asarray(audio[:, start * factor : end * factor], np.float32)
        missing = (end - start) * factor - piece.shape[1]
        return np.asarray(encode(variables, np.pad(piece, ((0, 0), (0, missing), (0, 0)))))

    pieces = [part(start, end)[:, first:last] for start, end, first, last in _blocks(frames, block, codec.overlap)]
    return np.concatenate(pieces, axis=1)


def decode_by_blocks(codec: Any, variables: dict[str, Any], latent: np.ndarray, block: int = 256) -> np.ndarray:
    """The sound [b, frames * downsample_factor, c] of a latent [b, frames, channels], as ``codec.decode`` gives it.

    Arguments and errors as of :func:`encode_by_blocks`.
    """
    factor, decode = codec.downsample_factor, _compiled(codec, "decode")
    pieces = [
        np.asarray(decode(variables, latent[:, start:end]))[:, first * factor : last * factor]
        for start, end, first, last in _blocks(latent.shape[1], block, codec.overlap)
    ]
    return np.concatenate(pieces, axis=1)


def _blocks(frames: int, block: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, first, last): of frames start to end those from first to last, from start on, count."""
    require(block >= 1, "block", block, "1 or more")
    size, done = block + 2 * overlap, 0
    if frames <= size:
        yield 0, frames, 0, frames
        return
    while done < frames:
        # The last block is moved back to have the size of the others.
        start = min(max(0, done - overlap), frames - size)
        end = start + size
        last = frames if end == frames else end - overlap
        yield start, end, done - start, last - start
        done = last


@lru_cache(8)
def _compiled(codec: Any, method: str) -> Callable[..., jax.Array]:
    if method == "encode":
        return jax.jit(lambda variables, audio: codec.encode(variables, audio)[0])
    return jax.jit(codec.decode)
