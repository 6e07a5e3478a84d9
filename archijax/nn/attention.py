"""Contains items of a U-Net: self-attention, cross-attention, linear attention, and a feed-forward layer.

Each item is called as ``item(x, context)``, where the context is a :class:`archijax.nn.Context`. The result has the
shape of x. Attention treats all positions of x as one sequence.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from archijax.errors import InputError
from archijax.nn.arrays import full, halves
from archijax.nn.linear import Linear, Weight
from archijax.nn.norms import LayerNorm

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Makes programs that are traced inside ``with portable():`` independent of the platform.

    Inside the block, attention with ``implementation=None`` does not use cuDNN. A program that is exported on an NVIDIA
    GPU then also runs on CPU and TPU.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


class Attention(nn.Module):
    """Adds multi-head attention to x: the result is x + attention(norm(x)) (Vaswani et al. 2017).

    With ``item = Attention(head_features=64, num_heads=8)``, ``item.init(key, x)`` makes the variables.
    ``item.apply(variables, x)`` returns an array in the shape of x [b, *positions, c].

    Fields:
        head_features: the number of features of each head.
        num_heads: the number of heads.
        cross: whether keys and values are computed from ``context.embedding`` [b, n, e] instead of x. Cross-attention
            is called as ``item.apply(variables, x, Context(embedding=embedding))``. If cross is False, the context is
            not used.
        linear: whether to use linear attention, ``softmax(q) (softmax(k)^T v)`` (Shen et al. 2021, "Efficient
            Attention"). The softmax of q is over features, and the softmax of k is over positions. The cost of linear
            attention is proportional to the length of x, not to the square of the length.
        embedding_features: the required number e of features of each token of the embedding, or None for any number.
        implementation: the implementation that ``jax.nn.dot_product_attention`` uses, "xla" or "cudnn" (only on NVIDIA
            GPUs). None selects cuDNN on NVIDIA GPUs, if dtype is bfloat16 or float16 and a head has at most 128
            features. None selects matrix products in all other cases, and for cross-attention from a long x to few
            tokens. ``jax.jvp`` does not work with cuDNN. Linear attention ignores `implementation`.
        dtype: the type of the computation and of the result.

    Raises:
        InputError: cross-attention gets no embedding, or an embedding with a wrong number of features.
    """

    head_features: int
    num_heads: int
    cross: bool = False
    linear: bool = False
    embedding_features: int | None = None
    implementation: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Any = None) -> Float[Array, "b *positions c"]:
        shape = x.shape
        x = x.reshape(shape[0], -1, shape[-1])
        y = LayerNorm(name="norm")(x).astype(self.dtype)
        # As in the original, keys and values have a norm of their own, also in self-attention.
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

    def _heads(self, t: Float[Array, "*shape c"]) -> Float[Array, "*shape {self.num_heads} {self.head_features}"]:
        return t.reshape(*t.shape[:-1], self.num_heads, self.head_features)

    def _embedding(self, context: Any) -> Float[Array, "b n e"]:
        if context is None or context.embedding is None:
            raise InputError("cross-attention needs an embedding [batch, tokens, features], but there is none")
        features = context.embedding.shape[-1]
        if self.embedding_features not in (None, features):
            raise InputError(
                f"the embedding has {features} features: embedding_features {self.embedding_features} is needed"
            )
        return context.embedding


def attend(
    q: Float[Array, "b n h d"],
    k: Float[Array, "b m g d"],
    v: Float[Array, "b m g d"],
    implementation: str | None = None,
) -> Float[Array, "b n h d"]:
    """Returns the attention softmax(q k^T / sqrt(d)) v of each head, in the shape of q.

    q has h heads. k and v have g heads, and g must divide h. If g < h, h / g neighbouring heads of q share one head of
    k and v (Ainslie et al. 2023).

    Args:
        implementation: "xla", "cudnn" (only on NVIDIA GPUs), or None to choose automatically; see :class:`Attention`.
    """
    implementation = implementation or ("cudnn" if _cudnn_takes(q, k) else None)
    if implementation is None:
        return _attention(q, k, v)
    # The code of dot_product_attention mixes types, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(q, k, v, implementation=implementation)


def _cudnn_takes(q: Array | jax.ShapeDtypeStruct, k: Array | jax.ShapeDtypeStruct) -> bool:
    """Returns whether cuDNN's attention on this machine supports queries and keys with these types and shapes."""
    device, features = jax.local_devices()[0], q.shape[-1]
    if _portable.get() or not _known(q, k) or not device.device_kind.startswith("NVIDIA"):
        return False
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and features % 8 == 0 and features <= 128
    return fits and float(device.compute_capability) >= 8


def _known(*arrays: Array | jax.ShapeDtypeStruct) -> bool:
    """Returns whether all axes of the arrays have known lengths. In an exported program, a length can be symbolic."""
    return all(isinstance(size, int) for array in arrays for size in array.shape)


@jax.jit
def _attention(
    q: Float[Array, "b n h d"], k: Float[Array, "b m g d"], v: Float[Array, "b m g d"]
) -> Float[Array, "b n h d"]:
    """Computes the result of :func:`attend` by matrix products, with the softmax in at least float32."""
    (b, n, h, d), groups = q.shape, k.shape[2]
    # The axis of heads comes before the axis of positions. The other order takes twice the time on CPU.
    q, k, v = (jnp.swapaxes(t, 1, 2) for t in (q * d**-0.5, k, v))
    # The heads of a group have the same keys, so their queries are joined to one longer sequence.
    q = q.reshape(b, groups, h // groups * n, d) if groups < h else q
    weights = jax.nn.softmax(full(jnp.einsum("bhnd,bhmd->bhnm", q, k)), axis=-1)
    out = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v)
    return jnp.swapaxes(out.reshape(b, h, n, d) if groups < h else out, 1, 2)


def _absorbing_pays(y: Float[Array, "b n c"], k: Float[Array, "b m h d"]) -> bool:
    """Returns True unless `_absorbed_attention` needs more multiplications than `_attention`."""
    (_, n, c), (_, m, _, d) = y.shape, k.shape
    return _known(y, k) and m * c * (n + d) <= n * d * (c + m)


@jax.jit
def _absorbed_attention(
    y: Float[Array, "b n c"],
    to_q: Float[Array, "c h d"],
    k: Float[Array, "b m h d"],
    v: Float[Array, "b m h d"],
    to_out: Float[Array, "h d c"],
) -> Float[Array, "b n c"]:
    """Computes the attention ``softmax(y W_q k^T) v W_o`` as ``softmax(y (W_q k^T)) (v W_o)``. Here W_q is to_q, and
    W_o is to_out.

    The cost of ``W_q k^T`` and ``v W_o`` does not depend on the length n of y. In this order, the cost of two matrix
    products grows with n, instead of four. This order is faster for few keys.
    """
    keys = jnp.einsum("chd,bmhd->bchm", to_q * to_q.shape[-1] ** -0.5, k)
    values = jnp.einsum("bmhd,hdc->bhmc", v, to_out)
    b, c, h, m = keys.shape
    scores = (y @ keys.reshape(b, c, h * m)).reshape(b, -1, h, m)
    weights = jax.nn.softmax(full(scores), axis=-1).astype(y.dtype)
    return weights.reshape(b, -1, h * m) @ values.reshape(b, h * m, c)


def _linear_attention(
    q: Float[Array, "b n h d"], k: Float[Array, "b m h d"], v: Float[Array, "b m h d"]
) -> Float[Array, "b n h d"]:
    """Computes linear attention (see :class:`Attention`), with both softmaxes in at least float32."""
    q_rows = jax.nn.softmax(full(q), axis=-1) * q.shape[-1] ** -0.5
    k_columns = jax.nn.softmax(full(k), axis=1)
    summary = jnp.einsum("bnhd,bnhe->bhde", k_columns.astype(v.dtype), v)
    return jnp.einsum("bnhd,bhde->bnhe", q_rows.astype(v.dtype), summary)


class CrossAttention(Attention):
    """Adds to x [b, *positions, c] the cross-attention from x to ``context.embedding`` [b, n, e].

    ``y, variables = CrossAttention(64, 8).init_with_output(key, x, Context(embedding=embedding))`` gives y in the shape
    of x. The fields are those of :class:`Attention`.
    """

    cross: bool = True


class LinearAttention(Attention):
    """Adds linear self-attention over all positions to x [b, *positions, c].

    ``y, variables = LinearAttention(64, 8).init_with_output(key, x)`` gives y in the shape of x. The fields are those
    of :class:`Attention`.
    """

    linear: bool = True


class LinearCrossAttention(CrossAttention):
    """Adds to x [b, *positions, c] the linear cross-attention from x to ``context.embedding`` [b, n, e].

    ``y, variables = LinearCrossAttention(64, 8).init_with_output(key, x, Context(embedding=embedding))`` gives y in the
    shape of x. The fields are those of :class:`Attention`.
    """

    linear: bool = True


class FeedForward(nn.Module):
    """Returns x + linear(gelu(linear(x))), in the shape of x [..., c]. The context is not used.

    ``y, variables = FeedForward().init_with_output(key, x)`` gives y in the shape of x.

    Fields:
        multiplier: a number. The first linear map returns ``multiplier * c`` features.
        dtype: the type of the computation and of the result.
    """

    multiplier: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*shape c"], context: Any = None) -> Float[Array, "*shape c"]:
        y = Linear(self.multiplier * x.shape[-1], dtype=self.dtype, name="expand")(x)
        y = nn.gelu(y, approximate=False)
        return x.astype(self.dtype) + Linear(x.shape[-1], dtype=self.dtype, name="contract")(y)
