"""Numbers and categories as conditioning: vectors that join the features of a net, or tokens of its embedding."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.nn.conditioning import ClassEmbedder, NumberEmbedder, Wrapper

# Before the name of a condition in a batch, so that it meets no name of an argument.
PREFIX = "condition_"


class NumberVector(nn.Module):
    """Places [b] in a range, 0 to 1, as vectors [b, width], by Fourier features of fine and coarse frequencies."""

    width: int

    @nn.compact
    def __call__(self, place: jax.Array) -> jax.Array:
        return NumberEmbedder(self.width, spread=16.0, name="embedder")(place)


class CategoryVector(nn.Module):
    """Numbers [b] of categories, from 0 to count - 1, as learned vectors [b, width]."""

    count: int
    width: int

    @nn.compact
    def __call__(self, place: jax.Array) -> jax.Array:
        return ClassEmbedder(self.count, self.width, name="embedder")(place.astype(jnp.int32))


class Conditioners(Wrapper):
    """Conditions of a net: ``net(x, time, condition_NAME=[b], ...)``, each -1 where an item has none.

    The vectors of some are added to the features; an item without the condition gets zeros. Those of others follow the
    embedding, a token each; an item without the condition gets what :class:`ClassifierFreeGuidance` has in its place.

    Fields:
        features: by name what makes a vector [b, f] of a condition.
        tokens: by name what makes a token [b, e] of one, in their order.
    """

    features: Mapping[str, nn.Module]
    tokens: Mapping[str, nn.Module]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *args,
        features: jax.Array | None = None,
        embedding: jax.Array | None = None,
        embedding_mask: jax.Array | None = None,
        **conditioning,
    ) -> jax.Array:
        def known(name: str) -> tuple[jax.Array, jax.Array]:
            place = conditioning.pop(PREFIX + name, None)
            place = jnp.full(len(x), -1.0) if place is None else place.astype(jnp.float32)
            if place.shape != (len(x),):
                raise InputError(f"the condition {name} has shape {place.shape}: one per item [{len(x)}] is needed")
            return jnp.maximum(place, 0), place < 0

        for name, vector in self.features.items():
            place, missing = known(name)
            state = jnp.where(missing[:, None], 0, vector(place))
            features = state if features is None else features + state
        masks, tokens = [], []
        if self.tokens and embedding is not None:
            whole = jnp.zeros(len(x), bool) if embedding_mask is None else embedding_mask
            masks, tokens = [jnp.broadcast_to(whole[:, None], embedding.shape[:2])], [embedding]
        for name, vector in self.tokens.items():
            place, missing = known(name)
            masks.append(missing[:, None])
            tokens.append(vector(place)[:, None].astype(tokens[0].dtype if tokens else jnp.float32))
        if tokens:
            embedding, embedding_mask = (jnp.concatenate(parts, axis=1) for parts in (tokens, masks))
        more = {"features": features, "embedding": embedding, "embedding_mask": embedding_mask}
        return self.net(x, *args, **{name: value for name, value in more.items() if value is not None}, **conditioning)
