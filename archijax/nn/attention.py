"""Attention items of the U-Net: self, cross and linear attention, and the feed-forward layer.

Each maps ``(x, context) -> x`` over all positions of x [b, *positions, c], flattened.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.nn.arrays import full, halves
from archijax.nn.linear import Linear, Weight
from archijax.nn.norms import LayerNorm

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Programs that are traced inside run on any platform, and not on the one at hand alone."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


class Attention(nn.Module):
    """Pre-normalised multi-head attention around a skip (Vaswani et al. 2017), or linear attention.

    Fields:
        head_features, num_heads: size of a head and how many.
        cross: keys and values come from ``context.embedding`` [b, n, e] instead of x.
        linear: softmax over the features of q and over the positions of k, then k^T v first (Shen et al. 2021,
            "Efficient Attention"): cost grows with the length, not with its square.
        embedding_features: of an embedding's token, checked if given.
        implementation: that of ``jax.nn.dot_product_attention``, "xla" or "cudnn". None takes the fastest: for few
            tokens and a long x the projections are absorbed; else cuDNN's on NVIDIA GPUs where it can be had (bfloat16
            or float16, heads of at most 128 features; without `jax.jvp`); else plain matrix products.
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
        y = LayerNorm(name="norm")(x).astype(self.dtype)
        # Self-attention too has a norm of its own for keys and values, as in the original.
        source = self._embedding(context).astype(self.dtype) if self.cross else x
        source = LayerNorm(name="norm_context")(source).astype(self.dtype)
        inner = self.head_features * self.num_heads
        weight = partial(Weight, dtype=self.dtype)
        to_q = weight(inner, name="to_q")(shape[-1])
        k, v = halves(source @ weight(2 * inner, name="to_kv")(source.shape[-1]))
        k, v = self._heads(k), self._heads(v)
        to_out = weight(shape[-1], name="to_out")(inner)
        if self.cross and not self.linear and self.implementation is None and _absorbing_pays(y, k):
            to_out = to_out.reshape(self.num_heads, self.head_features, -1)
            out = _absorbed_attention(y, self._heads(to_q), k, v, to_out)
        else:
            q = self._heads(y @ to_q)
            out = _linear_attention(q, k, v) if self.linear else attend(q, k, v, self.implementation)
            out = out.reshape(*out.shape[:2], inner) @ to_out
        return (x.astype(self.dtype) + out).reshape(shape)

    def _heads(self, t: jax.Array) -> jax.Array:
        return t.reshape(*t.shape[:-1], self.num_heads, self.head_features)

    def _embedding(self, context) -> jax.Array:
        if context is None or context.embedding is None:
            raise InputError("cross-attention needs an embedding [batch, tokens, features] and found none")
        found = context.embedding.shape[-1]
        if self.embedding_features not in (None, found):
            raise InputError(
                f"the embedding has {found} features: embedding_features {self.embedding_features} is needed"
            )
        return context.embedding


def attend(q: jax.Array, k: jax.Array, v: jax.Array, implementation: str | None = None) -> jax.Array:
    """What queries [b, n, h, d] find among values by keys, [b, m, g, d] each; softmax(q k^T / sqrt(d)) v, [b, n, h, d].

    Args:
        q, k, v: each group of h / g neighbouring query heads shares a head of keys and values (Ainslie et al. 2023).
        implementation: as for :class:`Attention`.
    """
    implementation = implementation or ("cudnn" if _cudnn_takes(q, k) else None)
    if implementation is None:
        return _attention(q, k, v)
    # Its own code mixes types.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)


def _cudnn_takes(q: jax.Array, k: jax.Array) -> bool:
    """Whether cuDNN's attention is there, for [b, n, h, d] each."""
    device, features = jax.local_devices()[0], q.shape[-1]
    if _portable.get() or not _known(q, k) or not device.device_kind.startswith("NVIDIA"):
        return False
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and features % 8 == 0 and features <= 128
    return fits and float(device.compute_capability) >= 8


def _known(*arrays: jax.Array) -> bool:
    """Whether all sizes are numbers: those of exported programs may not be."""
    return all(isinstance(size, int) for array in arrays for size in array.shape)


@jax.jit
def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """As :func:`attend`; the softmax in float32. Heads go first: on CPU that takes half the time."""
    (b, n, h, d), groups = q.shape, k.shape[2]
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q * d**-0.5, k, v))
    # The heads of a group, one after the other, are more queries to the same keys.
    q = q.reshape(b, groups, h // groups * n, d) if groups < h else q
    weights = jax.nn.softmax(full(jnp.einsum("bhnd,bhmd->bhnm", q, k)), axis=-1)
    out = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v)
    return jnp.swapaxes(out.reshape(b, h, n, d) if groups < h else out, 1, 2)


def _absorbing_pays(y: jax.Array, k: jax.Array) -> bool:
    """Whether `_absorbed_attention` of [b, n, c] to [b, m, h, d] has fewer multiplications."""
    (_, n, c), (_, m, _, d) = y.shape, k.shape
    return _known(y, k) and m * c * (n + d) <= n * d * (c + m)


@jax.jit
def _absorbed_attention(y: jax.Array, to_q: jax.Array, k: jax.Array, v: jax.Array, to_out: jax.Array) -> jax.Array:
    """Attention to few tokens, its projections multiplied into keys and values: two products instead of four.

    softmax(y W_q k^T) v W_o is softmax(y (W_q k^T)) (v W_o), and what stands in brackets does not grow with the length.

    Args:
        y: [b, n, c]; to_q: [c, h, d]; k, v: [b, m, h, d]; to_out: [h, d, c].
    """
    keys = jnp.einsum("chd,bmhd->bchm", to_q * to_q.shape[-1] ** -0.5, k)
    values = jnp.einsum("bmhd,hdc->bhmc", v, to_out)
    b, c, h, m = keys.shape
    scores = (y @ keys.reshape(b, c, h * m)).reshape(b, -1, h, m)
    weights = jax.nn.softmax(full(scores), axis=-1).astype(y.dtype)
    return weights.reshape(b, -1, h * m) @ values.reshape(b, h * m, c)


def _linear_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """[b, n, h, d] each; the softmaxes in float32."""
    q_rows = jax.nn.softmax(full(q), axis=-1) * q.shape[-1] ** -0.5
    k_columns = jax.nn.softmax(full(k), axis=1)
    summary = jnp.einsum("bnhd,bnhe->bhde", k_columns.astype(v.dtype), v)
    return jnp.einsum("bnhd,bhde->bnhe", q_rows.astype(v.dtype), summary)


class CrossAttention(Attention):
    """Attention to ``context.embedding`` [b, n, e] in place of x; the fields are those of :class:`Attention`."""

    cross: bool = True


class LinearAttention(Attention):
    """Linear attention over the positions of x; the fields are those of :class:`Attention`."""

    linear: bool = True


class LinearCrossAttention(CrossAttention):
    """Linear attention to ``context.embedding`` [b, n, e]; the fields are those of :class:`Attention`."""

    linear: bool = True


class FeedForward(nn.Module):
    """x + linear(gelu(linear(x))), the inner width ``multiplier`` times the channels."""

    multiplier: int = 4
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context=None) -> jax.Array:
        y = Linear(self.multiplier * x.shape[-1], dtype=self.dtype, name="expand")(x)
        y = nn.gelu(y, approximate=False)
        return x.astype(self.dtype) + Linear(x.shape[-1], dtype=self.dtype, name="contract")(y)
