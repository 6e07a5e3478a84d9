"""Makes JAX keys for random numbers. The constants of this module are the numbers that are folded into keys. With these
constants, no two streams of random numbers are equal.

A run has one root key. :func:`item_keys` computes the keys of the items in a training step, and :func:`per_item`
computes the keys of sampled items. The key of an item is for the item's main random numbers, such as the noise.
:func:`stream` computes keys for the item's other random numbers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from archijax.errors import InputError

# Numbers of an item's other draws:
SAMPLER_NOISE = 1  # the noise that samplers add; the main draw is the noise that sampling starts from
DECODER_NOISE = 2  # the noise that a diffusion decoder of the item's latents starts from
ENCODER = 3  # the draws of an encoder in training; 0 to 2 give the keys of split(key, 3), which the diffusion loss uses
CONDITIONS = 4  # the choice of the single conditions that training drops
# The key of an item's training time has one more draw:
STRATUM = 1  # the position of the item in the order of the batch, for stratified times
# The key of the text encoder has one more draw:
PLACEHOLDERS = 1  # the initial embeddings of placeholder tokens
# The root key has one more draw:
CODING = 2**32 - 1  # the draws of encoding and decoding sounds, which differ from the draws of sampled items


def stream(keys: Key[Array, " *b"], number: int) -> Key[Array, " *b"]:
    """Returns ``fold_in(key, number)`` for a single key, or for each of several keys. ``number`` is a constant such as
    `SAMPLER_NOISE`."""
    fold = lambda key: jax.random.fold_in(key, number)  # noqa: E731
    return jax.vmap(fold)(keys) if keys.ndim else fold(keys)


def item_keys(
    root_key: Key[Array, ""], step: Int[Array, ""] | int, first: Int[Array, ""] | int, count: int
) -> Key[Array, " {count}"]:
    """Returns ``count`` keys: ``fold_in(fold_in(root_key, step), i)`` for i = first, ..., first + count - 1. The number
    i is the index of the item in the whole batch.

    The noise of an item thus does not depend on how the batch is split over devices or into parts. For example,
    ``item_keys(jax.random.key(0), step=3, first=0, count=4)`` returns the four keys of a batch of four items.
    """
    return numbered(jax.random.fold_in(root_key, step), count, first)


def numbered(key: Key[Array, ""], count: int, first: Int[Array, ""] | int = 0) -> Key[Array, " {count}"]:
    """Returns ``count`` keys: ``fold_in(key, i)`` for i = first, ..., first + count - 1."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))


def per_item(keys: Key[Array, " ..."], count: int) -> Key[Array, " {count}"]:
    """Returns one key per item. ``count`` keys are returned unchanged. From a single key, the result is
    ``fold_in(key, i)`` for i = 0, ..., count - 1.

    Raises:
        InputError: ``keys`` is neither one key nor ``count`` keys, or ``jax.random.key`` did not make the keys.
    """
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise InputError(f"keys are {keys.dtype} of shape {keys.shape}: keys of jax.random.key are needed")
    if keys.ndim == 0:
        return numbered(keys, count)
    if keys.shape != (count,):
        raise InputError(f"keys have shape {keys.shape}: one key, or one per item [{count}], is needed")
    return keys


def step_keys(keys: Key[Array, " b"]) -> Key[Array, " b"]:
    """Returns the keys for the noise that samplers add, from the keys of the items."""
    return stream(keys, SAMPLER_NOISE)
