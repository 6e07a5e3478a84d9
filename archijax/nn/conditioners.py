"""Conditioning on numbers and categories, by vectors added to the features of a net or by tokens of its embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from archijax.errors import InputError
from archijax.nn.conditioning import ClassEmbedder, NumberEmbedder, Wrapper

# A batch has a condition under PREFIX + its name, so that no condition has the name of another argument.
PREFIX = "condition_"


class NumberVector(nn.Module):
    """Turns positions in a range, from 0 to 1, into vectors, by Fourier features with high and low frequencies."""

    width: int

    @nn.compact
    def __call__(self, position: Float[Array, " b"]) -> Float[Array, "b {self.width}"]:
        return NumberEmbedder(self.width, spread=16.0, name="embedder")(position)


class CategoryVector(nn.Module):
    """Turns the indices of categories, from 0 to count - 1, into learned vectors."""

    count: int
    width: int

    @nn.compact
    def __call__(self, index: Float[Array, " b"]) -> Float[Array, "b {self.width}"]:
        return ClassEmbedder(self.count, self.width, name="embedder")(index.astype(jnp.int32))


class Conditioners(Wrapper):
    """Conditions a net on named values: ``net(x, time, condition_NAME=[b], ...)``. -1 means that an item has none.

    A condition either adds a vector to the features or appends a token to the embedding. An item without the condition
    gets a vector of zeros, or the token of :class:`ClassifierFreeGuidance` that stands for "no embedding".

    Fields:
        features: by the name of a condition, the module that turns its values [b] into vectors [b, f].
        tokens: by the name of a condition, the module that turns its values into tokens [b, e], in their order.
    """

    features: Mapping[str, nn.Module]
    tokens: Mapping[str, nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *positions c"],
        *args: Any,
        features: Float[Array, "b f"] | None = None,
        embedding: Float[Array, "b n e"] | None = None,
        embedding_mask: Bool[Array, " b"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net. Raises InputError if a condition does not have the shape [b]."""

        def values(name: str) -> tuple[Float[Array, " b"], Bool[Array | np.ndarray, " b"]]:
            value = conditioning.pop(PREFIX + name, None)
            value = jnp.full(len(x), -1.0) if value is None else value.astype(jnp.float32)
            if value.shape != (len(x),):
                raise InputError(f"the condition {name} has shape {value.shape}: one per item [{len(x)}] is needed")
            return jnp.maximum(value, 0), value < 0

        for name, vector in self.features.items():
            value, missing = values(name)
            state = jnp.where(missing[:, None], 0, vector(value))
            features = state if features is None else features + state
        masks, tokens = [], []
        if self.tokens and embedding is not None:
            mask = jnp.zeros(len(x), bool) if embedding_mask is None else embedding_mask
            masks, tokens = [jnp.broadcast_to(mask[:, None], embedding.shape[:2])], [embedding]
        for name, vector in self.tokens.items():
            value, missing = values(name)
            masks.append(missing[:, None])
            tokens.append(vector(value)[:, None].astype(tokens[0].dtype if tokens else jnp.float32))
        if tokens:
            embedding, embedding_mask = (jnp.concatenate(arrays, axis=1) for arrays in (tokens, masks))
        context = {"features": features, "embedding": embedding, "embedding_mask": embedding_mask}
        context = {name: value for name, value in context.items() if value is not None}
        return self.net(x, *args, **context, **conditioning)
