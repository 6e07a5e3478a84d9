"""Keys of random draws. Every number that is folded into a key has its name here, so that no two streams meet.

A run has one root key. A step's item has the key :func:`item_keys` gives, a sampled item that of :func:`per_item`; the
stream of a draw beside an item's main one is :func:`stream` of its key.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from archijax.errors import InputError

# Draws beside the main one of a key, which uses the key itself. Of an item's key:
SAMPLER_NOISE = 1  # what samplers add; the main draw is what sampling starts from
DECODER_NOISE = 2  # what a diffusion decoder of the item's latents starts from
ENCODER = 3  # what an encoder draws in training; 0 to 2 are as split(key, 3), which the diffusion's loss draws from
CONDITIONS = 4  # which of its conditions training leaves out alone
# Of the key of an item's training time:
STRATUM = 1  # its place in the order of the batch, for stratified times
# Of the text encoder's key:
PLACEHOLDERS = 1  # the first embeddings of placeholder tokens
# Of the root key:
CODING = 2**32 - 1  # what coding existing sounds draws, apart from the items that are sampled


def stream(keys: jax.Array, number: int) -> jax.Array:
    """The keys of another draw, by its number above, of one key or of keys [b]."""
    fold = lambda key: jax.random.fold_in(key, number)  # noqa: E731
    return jax.vmap(fold)(keys) if keys.ndim else fold(keys)


def item_keys(root_key: jax.Array, step: jax.Array | int, first: jax.Array | int, count: int) -> jax.Array:
    """One key per item, [count]: fold_in(fold_in(root, step), i) for the global indices i = first, first + 1, ...

    An item's noise thus does not depend on the devices or parts that its batch is split into.
    """
    return numbered(jax.random.fold_in(root_key, step), count, first)


def numbered(key: jax.Array, count: int, first: jax.Array | int = 0) -> jax.Array:
    """The keys [count] of the items first, first + 1, ...: fold_in(key, i)."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count, dtype=jnp.int32))


def per_item(keys: jax.Array, count: int) -> jax.Array:
    """One key per item, [count]: keys as they are, or those of the items 0, 1, ... of a single key.

    Raises InputError for what is not one key, or one per item.
    """
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise InputError(f"keys are {keys.dtype} of shape {keys.shape}: keys of jax.random.key are needed")
    if keys.ndim == 0:
        return numbered(keys, count)
    if keys.shape != (count,):
        raise InputError(f"keys have shape {keys.shape}: one key, or one per item [{count}], is needed")
    return keys


def step_keys(keys: jax.Array) -> jax.Array:
    """The keys of the noise that samplers add, apart from what the same keys [b] start from."""
    return stream(keys, SAMPLER_NOISE)
