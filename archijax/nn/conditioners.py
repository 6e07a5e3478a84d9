"""Contains modules that condition a net on numbers and categories. Each number or category becomes a vector that is
added to the features, or a token that is appended to the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from archijax.errors import InputError
from archijax.nn.conditioning import ClassEmbedder, NumberEmbedder, Wrapper

# The key of a condition in a batch is PREFIX + its name, so that it never equals the name of another argument.
PREFIX = "condition_"


class NumberVector(nn.Module):
    """Turns numbers [b] from 0 to 1 into vectors [b, width], by Fourier features with high and low frequencies.

    ``Conditioners(net, features={"gain": NumberVector(1024)}, tokens={})`` conditions a net on such numbers.

    Fields:
        width: the number of features of each vector.
    """

    width: int

    @nn.compact
    def __call__(self, position: Float[Array, " b"]) -> Float[Array, "b {self.width}"]:
        return NumberEmbedder(self.width, spread=16.0, name="embedder")(position)


class CategoryVector(nn.Module):
    """Turns the indices [b] of categories into learned vectors [b, width]. The indices are whole numbers in a
    floating-point type.

    ``Conditioners(net, features={"genre": CategoryVector(10, 1024)}, tokens={})`` conditions a net on categories.

    Fields:
        count: the number of categories. Indices are from 0 to count - 1.
        width: the number of features of each vector.
    """

    count: int
    width: int

    @nn.compact
    def __call__(self, index: Float[Array, " b"]) -> Float[Array, "b {self.width}"]:
        return ClassEmbedder(self.count, self.width, name="embedder")(index.astype(jnp.int32))


class Conditioners(Wrapper):
    """Conditions a net on named numbers or categories, with one value per item of the batch.

    With ``conditioned = Conditioners(net, features={"gain": NumberVector(1024)}, tokens={})``, ``conditioned.init(key,
    x, time, condition_gain=gain)`` makes the variables. ``conditioned.apply(variables, x, time, condition_gain=gain)``
    with gain [b] returns the result of the net.

    A condition either adds a vector to the features or appends a token to the embedding. The value -1 means that an
    item of the batch lacks the condition. The vector of a missing condition is zero, and its token is masked.

    Fields:
        net: a module ``net(x, time, features=[b, f], embedding=[b, n, e], embedding_mask=[b, n])``, such as
            :func:`UNetV0`. The net needs the arguments embedding and embedding_mask only if the field `tokens` is not
            empty. A net that takes tokens must contain a :class:`ClassifierFreeGuidance`, which replaces masked tokens.
        features: maps the name of a condition to a module, such as ``NumberVector(f)``, that turns values [b] into
            vectors [b, f]. f is the number of features that the net takes (``modulation_features`` of :func:`UNetV0`).
        tokens: maps the name of a condition to a module, such as ``CategoryVector(10, e)``, that turns values [b] into
            tokens [b, e]. The tokens are appended in the order of this mapping.
    """

    features: Mapping[str, nn.Module]
    tokens: Mapping[str, nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *args: Any,
        features: Float[Array, "b f"] | None = None,
        embedding: Float[Array, "b n e"] | None = None,
        embedding_mask: Bool[Array, " b"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net with the conditions, and returns the result of the net.

        Args:
            args: other arguments for the net, such as time [b].
            features, embedding, embedding_mask: optional inputs of the net, to which the conditions are added.
                embedding_mask is bool [b].
            conditioning: arrays ``condition_NAME`` [b], and other arguments for the net. Values are at least 0, or -1
                (missing). If the array of a condition is missing, all its values are -1.

        Raises:
            InputError: a condition does not have the shape [b].
        """

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
