"""Makes JAX keys for random numbers. Every number that is folded into a key has a name here, so that no two streams are
equal.

A run has one root key. :func:`item_keys` computes the keys of the items in a training step, and :func:`per_item`
computes the keys of sampled items. An item's main random numbers, such as its noise, use the item's key. :func:`stream`
computes the keys for its other random numbers.
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
    """Derives new keys from one key or keys [b]. ``number``, a constant of this module, stands for their purpose."""
    fold = lambda key: jax.random.fold_in(key, number)  # noqa: E731
    return jax.vmap(fold)(keys) if keys.ndim else fold(keys)


def item_keys(
    root_key: Key[Array, ""], step: Int[Array, ""] | int, first: Int[Array, ""] | int, count: int
) -> Key[Array, " {count}"]:
    """Returns one key per item: fold_in(fold_in(root_key, step), i) for the indices i = first, first + 1, ... in the
    whole batch.

    The noise of an item thus does not depend on how its batch is split over devices or into parts. For example,
    ``item_keys(jax.random.key(0), step=3, first=0, count=4)`` has the keys [4] of a batch of four items.
    """
    return numbered(jax.random.fold_in(root_key, step), count, first)


def numbered(key: Key[Array, ""], count: int, first: Int[Array, ""] | int = 0) -> Key[Array, " {count}"]:
    """Returns the keys of ``count`` items: fold_in(key, i) for i = first, first + 1, ..."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))


def per_item(keys: Key[Array, " ..."], count: int) -> Key[Array, " {count}"]:
    """Returns one key per item: the given keys [count], or the keys of the items 0, 1, ... derived from a single key.

    Raises:
        InputError: there is neither one key nor one key per item, or the keys are not from ``jax.random.key``.
    """
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise InputError(f"keys are {keys.dtype} of shape {keys.shape}: keys of jax.random.key are needed")
    if keys.ndim == 0:
        return numbered(keys, count)
    if keys.shape != (count,):
        raise InputError(f"keys have shape {keys.shape}: one key, or one per item [{count}], is needed")
    return keys


def step_keys(keys: Key[Array, " b"]) -> Key[Array, " b"]:
    """Derives the keys for the noise that samplers add, from one key per item."""
    return stream(keys, SAMPLER_NOISE)
