"""Wrappers that give a net more to look at: time, guidance, numbers, classes and appended channels.

A net is any module ``net(x, **conditioning)``. A wrapper takes the conditioning it knows, turns it into features
[b, f] or an embedding [b, n, e], and passes the rest on; wrapping order is reading order.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.linear import Linear


class Wrapper(nn.Module):
    """A module around a net."""

    net: nn.Module

    @property
    def length_multiple(self) -> int:
        """Lengths must be multiples of this; 1 for a net that does not say."""
        return getattr(self.net, "length_multiple", 1)


class NumberEmbedder(nn.Module):
    """Numbers of any shape [...] as vectors [..., features], by learned Fourier frequencies.

    Time, a duration in seconds, a tempo: whatever is a number. Computed in float32, since the frequencies make it
    sensitive to rounding.

    Fields:
        frequencies: how many sines and as many cosines.
        spread: the deviation of the last frequency at first; that of the first is 1, between them it rises evenly in
            the log. Above 1 near numbers are told apart sooner.
    """

    features: int
    frequencies: int = 128
    spread: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        deviation = np.geomspace(1.0, self.spread, self.frequencies, dtype=np.float32)
        draw = nn.initializers.normal(1.0)
        frequencies = self.param("frequencies", lambda key: draw(key, (self.frequencies,)) * deviation)
        x = jnp.asarray(x)
        x = (full(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32))[..., None]
        angles = x * frequencies * (2 * jnp.pi)
        fourier = jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1)
        flat = fourier.reshape(-1, fourier.shape[-1])
        return Linear(self.features, name="to_out")(flat).reshape(*x.shape[:-1], self.features)


class ClassEmbedder(nn.Module):
    """Class numbers of any shape [...] as learned vectors [..., features]; num_classes ids, from 0."""

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        table = self.param("table", nn.initializers.normal(1.0), (self.num_classes, self.features))
        return table[ids]


class TimeConditioning(Wrapper):
    """Turns the diffusion time into features: ``net(x, time)``.

    Fields: features, the width of the features, which must be what the net's modulation is used with.
    """

    features: int = 1024

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        time: jax.Array | None = None,
        *,
        features: jax.Array | None = None,
        **conditioning,
    ) -> jax.Array:
        """Args: time [b], or [b, n] for several times per item, whose features are summed; features [b, f], added."""
        if time is None or time.ndim not in (1, 2) or time.shape[0] != x.shape[0]:
            found = "none" if time is None else f"shape {time.shape}"
            raise InputError(f"the net needs time of shape [{x.shape[0]}] (one per item), found {found}")
        h = nn.gelu(NumberEmbedder(self.features, name="embedder")(time), approximate=False)
        # One layer applied twice: the original repeats the same module.
        layer = Linear(self.features, name="layer")
        for _ in range(2):
            h = nn.gelu(layer(h), approximate=False)
        if h.ndim == 3:
            h = h.sum(1)
        if features is not None:
            if features.shape != h.shape:
                raise InputError(f"features have shape {features.shape}: {h.shape} (the time features') is needed")
            h = h + features
        return self.net(x, features=h, **conditioning)


def guide(conditional: jax.Array, negative: jax.Array, scale: jax.Array) -> jax.Array:
    """negative + (conditional - negative) * scale (Ho & Salimans 2022, equation 6)."""
    return negative + (conditional - negative) * scale


class ClassifierFreeGuidance(Wrapper):
    """Trains with, and guides by, a learned fixed embedding that stands for "no embedding" (Ho & Salimans 2022).

    Fields: max_length, tokens of the longest embedding; features, of an embedding's token.
    """

    max_length: int
    features: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        embedding: jax.Array | None = None,
        embedding_mask: jax.Array | None = None,
        embedding_scale: float | jax.Array = 1.0,
        **conditioning,
    ) -> jax.Array:
        """Maps as the net does.

        Args:
            embedding: [b, n, features], n at most max_length.
            embedding_mask: bool [b] or [b, n]; True replaces an item's embedding, or a token of it, by the fixed one
                (training drops it with probability 0.1).
            embedding_scale: guidance, a number or one per item [b]; masked + (conditional - masked) * scale. At the
                number 1 the net is called once, else once with a batch of 2b. Do not give embedding_mask with it.
        """
        if embedding is None:
            raise InputError("the net can be guided and needs an embedding [batch, tokens, features], found none")
        _, tokens, features = embedding.shape
        if tokens > self.max_length or features != self.features:
            raise InputError(
                f"the embedding has {tokens} tokens of {features} features: at most {self.max_length} tokens of "
                f"{self.features} are possible"
            )
        table = self.param("fixed_embedding", nn.initializers.normal(1.0), (self.max_length, self.features))
        fixed = jnp.broadcast_to(table[:tokens].astype(embedding.dtype), embedding.shape)
        if embedding_mask is not None:
            embedding = jnp.where(embedding_mask.reshape(len(x), -1, 1), fixed, embedding)
        if isinstance(embedding_scale, int | float) and embedding_scale == 1:
            return self.net(x, embedding=embedding, **conditioning)
        # Only arrays and lists of arrays are doubled; settings such as out_channels pass as they are.
        twice = jax.tree.map(
            lambda v: jnp.concatenate([v, v]) if isinstance(v, jax.Array | np.ndarray) else v, {"x": x, **conditioning}
        )
        both = self.net(embedding=jnp.concatenate([embedding, fixed]), **twice)
        conditional, masked = jnp.split(both, 2)
        scale = jnp.asarray(embedding_scale, both.dtype)
        scale = scale.reshape(-1, *(1,) * (x.ndim - 1)) if scale.ndim else scale
        return guide(conditional, masked, scale)


class EmbeddingFeatures(Wrapper):
    """Adds the mean of the embedding, through a linear map, to the features: what holds for the whole sound.

    Modulation by it is learned many times faster than cross-attention, which the originals have alone. Inside
    :class:`ClassifierFreeGuidance` it follows the masked embedding; around a net that masks its embedding itself, by
    ``embedding_mask``, it adds nothing where that is True.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *args,
        embedding: jax.Array | None = None,
        embedding_mask: jax.Array | None = None,
        features: jax.Array | None = None,
        **conditioning,
    ) -> jax.Array:
        if embedding is None:
            raise InputError("the net needs an embedding [batch, tokens, features], found none")
        if features is None:
            raise InputError("embedding features are added to features [batch, features], found none: pass time=")
        pooled = Linear(features.shape[-1], name="to_features")(full(embedding).mean(1))
        if embedding_mask is not None:
            pooled = jnp.where(embedding_mask[:, None], 0, pooled)
            conditioning["embedding_mask"] = embedding_mask
        return self.net(x, *args, features=features + pooled, embedding=embedding, **conditioning)


class AppendChannels(Wrapper):
    """Channels beside x at full length: ``net(x, append_channels=[b, *positions, c])``; the result has those of x."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *args,
        append_channels: jax.Array | None = None,
        out_channels: int | None = None,
        **conditioning,
    ) -> jax.Array:
        if append_channels is None:
            raise InputError(f"append_channels are missing: {(*x.shape[:-1], 'any')} is needed")
        if append_channels.shape[:-1] != x.shape[:-1]:
            raise InputError(
                f"appended channels have shape {append_channels.shape}: {(*x.shape[:-1], 'any')} is needed"
            )
        joined = jnp.concatenate([x, append_channels.astype(x.dtype)], axis=-1)
        return self.net(joined, *args, out_channels=out_channels or x.shape[-1], **conditioning)
