"""Encodes and decodes long sounds in blocks, with constant memory and the same result as without blocks.

The result of a block depends on `codec.overlap` frames before the block, and as many after it. These frames are coded
with the block, and their results are dropped. All blocks have the same shape, so a codec is compiled only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from archijax.arithmetic import ceil_div
from archijax.errors import require


def encode_by_blocks(
    codec: Any, variables: dict[str, Any], audio: Float[Array | np.ndarray, "b time c"], block: int = 256
) -> Float[np.ndarray, "b frames d"]:
    """Encodes sounds to the latent that ``codec.encode`` returns without keys.

    Call ``latent = encode_by_blocks(codec, variables, audio)`` and
    ``audio = decode_by_blocks(codec, variables, latent)``. The latent [b, frames, latent_channels] has
    ``ceil(time / codec.downsample_factor)`` frames.

    Args:
        codec: a codec with a finite `overlap`, such as ``archijax.AutoEncoder(net=net, sample_rate=48000)`` with a
            :class:`FrameAutoEncoder` as the net. The net alone is not a codec.
        variables: the variables of the codec, such as from ``codec.init(key, {"audio": audio})``.
        audio: sounds of any length. Silence is appended to fill the last frame.
        block: the number of frames of a block, without the overlap.

    Raises:
        InputError: block is below 1, or the overlap of the codec is not finite.
    """
    factor = codec.downsample_factor
    frames = ceil_div(audio.shape[1], factor)
    encode, variables = _compiled(codec, "encode"), jax.device_put(variables)

    def encoded(start: int, end: int) -> Float[np.ndarray, "b frames d"]:
        samples = np.asarray(audio[:, start * factor : end * factor], np.float32)
        missing = (end - start) * factor - samples.shape[1]
        return np.asarray(encode(variables, np.pad(samples, ((0, 0), (0, missing), (0, 0)))))

    return _joined(encoded, _blocks(frames, block, codec.overlap), frames)


def decode_by_blocks(
    codec: Any, variables: dict[str, Any], latent: Float[Array | np.ndarray, "b frames d"], block: int = 256
) -> Float[np.ndarray, "b time c"]:
    """Decodes a latent to the sounds that ``codec.decode`` returns, with ``frames * downsample_factor`` samples.

    Args:
        codec, variables: a codec, such as ``archijax.from_pretrained("codec-16k").model``, and its variables, as for
            :func:`encode_by_blocks`.
        latent: the result of :func:`encode_by_blocks`.
        block: the number of frames of a block, without the overlap.
    """
    factor, decode = codec.downsample_factor, _compiled(codec, "decode")
    variables, frames = jax.device_put(variables), latent.shape[1]

    def decoded(start: int, end: int) -> Float[np.ndarray, "b time c"]:
        return np.asarray(decode(variables, latent[:, start:end]))

    return _joined(decoded, _blocks(frames, block, codec.overlap), frames, factor)


def _joined(
    coded: Callable[[int, int], np.ndarray], blocks: Iterator[tuple[int, int, int, int]], frames: int, factor: int = 1
) -> Float[np.ndarray, "b n c"]:
    """Joins the kept parts of blocks. A frame of the blocks is ``factor`` positions of the result."""
    position, result = 0, None
    for start, end, first, last in blocks:
        piece = coded(start, end)
        if result is None:
            result = np.empty((len(piece), frames * factor, piece.shape[2]), piece.dtype)
        count = (last - first) * factor
        result[:, position : position + count] = piece[:, first * factor : last * factor]
        position += count
    return result


def _blocks(frames: int, block: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (start, end, first, last): the frames start:end are coded, and first:last of the result are kept."""
    require(block >= 1, "block", block, "1 or more")
    size, position = block + 2 * overlap, 0
    if frames <= size:
        yield 0, frames, 0, frames
        return
    while position < frames:
        # The last block starts earlier, so that it has the same size as the other blocks.
        start = min(max(0, position - overlap), frames - size)
        end = start + size
        last = frames if end == frames else end - overlap
        yield start, end, position - start, last - start
        position = last


@lru_cache(8)
def _compiled(codec: Any, method: str) -> Callable[..., Array]:
    if method == "encode":
        return jax.jit(lambda variables, audio: codec.encode(variables, audio)[0])
    return jax.jit(codec.decode)
