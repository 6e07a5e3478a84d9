"""Attention items of the U-Net: self, cross and linear attention, and the feed-forward layer.

Each maps ``(x, context) -> x`` over all positions of x [b, *positions, c], flattened.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from .errors import InputError
from .layers import LayerNorm, Linear, full


class Attention(nn.Module):
    """Pre-normalised multi-head attention around a skip (Vaswani et al. 2017), or linear attention.

    Fields:
        head_features, num_heads: size of a head and how many.
        cross: keys and values come from ``context.embedding`` [b, n, e] instead of x.
        linear: softmax over the features of q and over the positions of k, then k^T v first (Shen et al. 2021,
            "Efficient Attention"): cost grows with the length, not with its square.
        embedding_features: of an embedding's token, checked if given.
        implementation: None for plain matrix products, or that of ``jax.nn.dot_product_attention``: "xla", or "cudnn"
            on NVIDIA GPUs (bfloat16 or float16 only).
    """

    head_features: int
    num_heads: int
    cross: bool = False
    linear: bool = False
    embedding_features: int | None = None
    implementation: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context=None) -> jax.Array:
        shape = x.shape
        x = x.reshape(shape[0], -1, shape[-1])
        y = LayerNorm(name="norm")(x)
        # Self-attention too has a norm of its own for keys and values, as in the original.
        source = LayerNorm(name="norm_context")(self._embedding(context) if self.cross else x)
        linear = partial(Linear, use_bias=False, dtype=self.dtype)
        inner = self.head_features * self.num_heads
        q = linear(inner, name="to_q")(y)
        k, v = jnp.split(linear(2 * inner, name="to_kv")(source), 2, axis=-1)
        q, k, v = (t.reshape(*t.shape[:2], self.num_heads, self.head_features) for t in (q, k, v))
        if self.linear:
            out = _linear_attention(q, k, v)
        elif self.implementation is None:
            out = _attention(q, k, v)
        else:
            # Its own code mixes types.
            with jax.numpy_dtype_promotion("standard"):
                out = jax.nn.dot_product_attention(q, k, v, implementation=self.implementation)
        out = linear(shape[-1], name="to_out")(out.reshape(*out.shape[:2], inner))
        return (x.astype(self.dtype) + out).reshape(shape)

    def _embedding(self, context) -> jax.Array:
        if context is None or context.embedding is None:
            raise InputError("cross-attention needs an embedding [batch, tokens, features] and found none")
        found = context.embedding.shape[-1]
        if self.embedding_features not in (None, found):
            raise InputError(
                f"the embedding has {found} features: embedding_features {self.embedding_features} is needed"
            )
        return context.embedding


@jax.jit
def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """[b, n, h, d] each; the softmax in float32. Heads go first: on CPU that takes half the time."""
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q * q.shape[-1] ** -0.5, k, v))
    weights = jax.nn.softmax(full(jnp.einsum("bhnd,bhmd->bhnm", q, k)), axis=-1)
    return jnp.swapaxes(jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v), 1, 2)


def _linear_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """[b, n, h, d] each; the softmaxes in float32."""
    q_rows = jax.nn.softmax(full(q), axis=-1) * q.shape[-1] ** -0.5
    k_columns = jax.nn.softmax(full(k), axis=1)
    summary = jnp.einsum("bnhd,bnhe->bhde", k_columns.astype(v.dtype), v)
    return jnp.einsum("bnhd,bhde->bnhe", q_rows.astype(v.dtype), summary)


CrossAttention = partial(Attention, cross=True)
LinearAttention = partial(Attention, linear=True)
LinearCrossAttention = partial(Attention, cross=True, linear=True)


class FeedForward(nn.Module):
    """x + linear(gelu(linear(x))), the inner width ``multiplier`` times the channels."""

    multiplier: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context=None) -> jax.Array:
        y = Linear(self.multiplier * x.shape[-1], dtype=self.dtype, name="expand")(x)
        y = nn.gelu(y, approximate=False)
        return x.astype(self.dtype) + Linear(x.shape[-1], dtype=self.dtype, name="contract")(y)
