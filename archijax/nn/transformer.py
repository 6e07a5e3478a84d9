"""The diffusion transformer of Stable Audio: ``net(x, time, features=..., embedding=...)`` (Evans et al. 2024).

Peebles & Xie 2023 (DiT) with what language models use: rotary positions, SwiGLU, few heads of keys and values. Time and
the state of the whole sound are one token before the sequence instead of a modulation of every layer.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.nn.arrays import full, halves
from archijax.nn.attention import attend
from archijax.nn.linear import Linear, uniform_init
from archijax.nn.norms import LayerNorm
from archijax.nn.rotary import rotary_angles, rotate


class Product(nn.Module):
    """Linear map of the last axis without bias, [..., c] -> [..., features]; ``zero`` starts it at zero."""

    features: int
    zero: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else uniform_init(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return x.astype(self.dtype) @ kernel.astype(self.dtype)


class Projection(nn.Module):
    """Two linear maps with SiLU between them, [..., c] -> [..., features]."""

    features: int
    bias: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = Linear if self.bias else Product
        x = nn.silu(layer(self.features, dtype=self.dtype, name="first")(x))
        return layer(self.features, dtype=self.dtype, name="second")(x)


class HeadsAttention(nn.Module):
    """Multi-head attention of x [b, n, c] to a source [b, m, e], whose heads may be fewer; no norm, no skip.

    Fields:
        head_features, num_heads: size of a head and how many of queries.
        source_heads: of keys and values, a divisor of num_heads.
        qk_norm: layer norm of every query and key (Dehghani et al. 2023).
        implementation: as for :class:`archijax.nn.attention.Attention`.
    """

    head_features: int
    num_heads: int
    source_heads: int
    qk_norm: bool = False
    implementation: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, source: jax.Array, angles: jax.Array | None = None) -> jax.Array:
        """Args: angles [n, k] of rotary positions, by which queries and keys are turned; then n = m."""

        def heads(t: jax.Array, count: int, name: str) -> jax.Array:
            t = Product(count * self.head_features, dtype=self.dtype, name=f"to_{name}")(t)
            return t.reshape(*t.shape[:-1], count, self.head_features)

        q, k, v = heads(x, self.num_heads, "q"), *(heads(source, self.source_heads, name) for name in "kv")
        if self.qk_norm:
            q, k = (LayerNorm(1e-6, name=f"{name}_norm")(t) for name, t in {"q": q, "k": k}.items())
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        out = attend(q, k, v, self.implementation)
        # Zero, so that a new layer changes nothing.
        return Product(x.shape[-1], zero=True, dtype=self.dtype, name="to_out")(out.reshape(*out.shape[:2], -1))


class SwiGLU(nn.Module):
    """linear(h * silu(gate)), [h, gate] = linear(x): [..., c] -> [..., c] (Shazeer 2020, equation 6).

    Fields: multiplier, the inner width in channels.
    """

    multiplier: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner, gate = halves(Linear(2 * self.multiplier * x.shape[-1], dtype=self.dtype, name="expand")(x))
        y = Product(x.shape[-1], zero=True, dtype=self.dtype, name="contract")(inner * nn.silu(gate))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return (full(y) + bias.astype(full(y).dtype)).astype(y.dtype)


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention where there is an embedding, SwiGLU; each after a norm and around a skip."""

    head_features: int
    num_heads: int
    embedding_heads: int
    qk_norm: bool
    implementation: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array | None, angles: jax.Array) -> jax.Array:
        def attention(source_heads: int, name: str) -> HeadsAttention:
            settings = (self.head_features, self.num_heads, source_heads, self.qk_norm, self.implementation)
            return HeadsAttention(*settings, dtype=self.dtype, name=name)

        y = LayerNorm(name="attention_norm")(x)
        x = x + attention(self.num_heads, "attention")(y, y, angles)
        if embedding is not None:
            y = LayerNorm(name="cross_attention_norm")(x)
            x = x + attention(self.embedding_heads, "cross_attention")(y, embedding)
        return x + SwiGLU(dtype=self.dtype, name="feed_forward")(LayerNorm(name="feed_forward_norm")(x))


class DiffusionTransformer(nn.Module):
    """The transformer, ``net(x, time, ...)``; input channels follow x. An untrained one gives what is in x, mapped.

    Fields:
        num_layers, num_heads, head_features: the width is num_heads * head_features.
        embedding_features: of the embedding's tokens; None for a net without cross-attention.
        embedding_width: of the tokens that cross-attention reads. None: embedding_features.
        embedding_heads: of keys and values there, a divisor of num_heads. None: embedding_width / head_features.
        global_features: of ``features``, the state of the whole sound; None for a net without.
        time_features: sines and cosines of the time.
        rotary_features: of each head that are turned by the position; None: half of them.
        qk_norm, implementation: see :class:`HeadsAttention`.
        remat: keep nothing of a layer for its backward pass, which computes it again.

    Raises:
        InputError: sizes that do not divide.
    """

    num_layers: int
    num_heads: int
    head_features: int = 64
    embedding_features: int | None = None
    embedding_width: int | None = None
    embedding_heads: int | None = None
    global_features: int | None = None
    time_features: int = 256
    rotary_features: int | None = None
    qk_norm: bool = False
    implementation: str | None = None
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        turned = self._rotary_features
        if turned % 2 or not 0 < turned <= self.head_features:
            raise InputError(f"rotary_features is {turned}: an even number up to head_features {self.head_features}")
        if self.time_features % 2:
            raise InputError(f"time_features is {self.time_features}: sines and cosines need an even number")
        heads = self._embedding_heads
        if self.embedding_features is not None and (heads < 1 or self.num_heads % heads):
            raise InputError(f"embedding_heads is {heads}: a divisor of the {self.num_heads} heads is needed")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        time: jax.Array | None = None,
        *,
        features: jax.Array | None = None,
        embedding: jax.Array | None = None,
        embedding_mask: jax.Array | None = None,
        out_channels: int | None = None,
    ) -> jax.Array:
        """Maps x [b, n, c] to [b, n, out_channels or c], at least float32.

        Args:
            time: [b].
            features: [b, global_features].
            embedding: [b, tokens, embedding_features].
            embedding_mask: bool [b]; True puts zeros in the place of an item's embedding, which is what the net is
                trained to take for "no embedding".

        Raises:
            InputError: an array of another shape, or one that the settings do not name.
        """
        self._check(x, time, features, embedding)
        # Zero, as in the original: the sequence enters and leaves as it is.
        c = x.shape[-1]
        y = x.astype(self.dtype)
        y = y + Product(c, zero=True, dtype=self.dtype, name="mix_in")(y)
        y = Product(self.width, dtype=self.dtype, name="to_in")(y)
        y = jnp.concatenate([self._token(time, features)[:, None], y], axis=1)
        if embedding is not None:
            if embedding_mask is not None:
                embedding = jnp.where(embedding_mask[:, None, None], jnp.zeros((), embedding.dtype), embedding)
            embedding = Projection(self._embedding_width, False, self.dtype, name="embedding")(embedding)
        angles = rotary_angles(y.shape[1], self._rotary_features)
        layer = nn.remat(TransformerLayer) if self.remat and not self.is_initializing() else TransformerLayer
        for i in range(self.num_layers):
            heads = (self.head_features, self.num_heads, self._embedding_heads)
            y = layer(*heads, self.qk_norm, self.implementation, self.dtype, name=f"layers_{i}")(y, embedding, angles)
        y = Product(out_channels or c, dtype=self.dtype, name="to_out")(y[:, 1:])
        return full(y + Product(y.shape[-1], zero=True, dtype=self.dtype, name="mix_out")(y))

    @property
    def width(self) -> int:
        """Features of a token."""
        return self.num_heads * self.head_features

    @property
    def _embedding_width(self) -> int:
        return self.embedding_width or self.embedding_features or 0

    @property
    def _embedding_heads(self) -> int:
        return self._embedding_width // self.head_features if self.embedding_heads is None else self.embedding_heads

    @property
    def _rotary_features(self) -> int:
        return self.rotary_features or self.head_features // 2

    def _token(self, time: jax.Array, features: jax.Array | None) -> jax.Array:
        """The token before the sequence [b, width], of time and features."""
        frequencies = self.param("time_frequencies", nn.initializers.normal(1.0), (self.time_features // 2,))
        # In float32, since the frequencies make it sensitive to rounding.
        angles = full(time)[:, None] * full(frequencies) * (2 * jnp.pi)
        waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        token = Projection(self.width, True, self.dtype, name="time")(waves)
        return token if features is None else token + Projection(self.width, False, self.dtype, name="global")(features)

    def _check(self, x: jax.Array, time, features, embedding) -> None:
        if x.ndim != 3 or x.shape[1] == 0:
            raise InputError(f"the transformer was given {x.shape}: [batch, positions, channels] is needed")
        b = len(x)
        wanted = {
            "time": (time, (b,), 1),
            "features": (features, (b, self.global_features), self.global_features),
            "embedding": (embedding, (b, "tokens", self.embedding_features), self.embedding_features),
        }
        for name, (array, shape, size) in wanted.items():
            if (array is None) != (size is None):
                found = "none" if array is None else f"shape {array.shape}"
                needed = f"of shape {shape} is needed" if array is None else "it takes none"
                raise InputError(f"the transformer's {name}: found {found}, {needed}")
            if array is not None and (array.ndim != len(shape) or any(
                size not in (found, "tokens") for size, found in zip(shape, array.shape, strict=True)
            )):  # fmt: skip
                raise InputError(f"the transformer's {name} has shape {array.shape}: {shape} is needed")
