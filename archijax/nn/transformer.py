"""Contains the diffusion transformer of Stable Audio (Evans et al. 2024).

The net is the DiT of Peebles & Xie 2023 with the layers of language models: rotary positions, SwiGLU, and fewer heads
of keys and values than of queries. Time and features do not modulate the layers. Instead, one token encodes time and
features, and precedes the sequence of x.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from archijax.errors import InputError
from archijax.nn.arrays import full, halves
from archijax.nn.attention import attend
from archijax.nn.linear import Linear, uniform_init
from archijax.nn.norms import LayerNorm
from archijax.nn.rotary import rotary_angles, rotate


class Product(nn.Module):
    """Applies a linear map without bias to the last axis of x.

    ``y, variables = Product(8).init_with_output(key, x)`` gives y [..., 8].

    Fields:
        features: the length of the last axis of the result.
        zero: whether the initial kernel is zero.
        dtype: the type of the computation and of the result.
    """

    features: int
    zero: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape {self.features}"]:
        init = nn.initializers.zeros if self.zero else uniform_init(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return x.astype(self.dtype) @ kernel.astype(self.dtype)


class Projection(nn.Module):
    """Applies two linear maps to the last axis of x, with SiLU between the two maps.

    ``y, variables = Projection(8, bias=True).init_with_output(key, x)`` gives y [..., 8].

    Fields:
        features: the length of the last axis after each linear map.
        bias: whether both linear maps have a bias.
        dtype: the type of the computation and of the result.
    """

    features: int
    bias: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape {self.features}"]:
        layer = Linear if self.bias else Product
        x = nn.silu(layer(self.features, dtype=self.dtype, name="first")(x))
        return layer(self.features, dtype=self.dtype, name="second")(x)


class HeadsAttention(nn.Module):
    """Computes multi-head attention from x [b, n, c] to a source [b, m, e]. The module has no norm and no residual
    connection.

    ``y, variables = HeadsAttention(8, 2, 2).init_with_output(key, x, source)`` gives y in the shape of x.

    Fields:
        head_features: the number of features of each head.
        num_heads: the number of heads of queries.
        source_heads: the number of heads of keys and values, a divisor of num_heads.
        qk_norm: whether a layer norm is applied to every query and key (Dehghani et al. 2023).
        implementation: "xla", "cudnn" or None, see :class:`archijax.nn.attention.Attention`.
        dtype: the type of the computation and of the result.
    """

    head_features: int
    num_heads: int
    source_heads: int
    qk_norm: bool = False
    implementation: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], source: Float[Array, "b m e"], angles: Float[Array, "n k"] | None = None
    ) -> Float[Array, "b n c"]:
        """Returns the attention, in the shape of x. Angles, such as ``rotary_angles(n, head_features)``, rotate queries
        and keys. If ``angles`` are given, x and source must have equal lengths, n = m.
        """

        def heads(t: Float[Array, "b m e"], count: int, name: str) -> Float[Array, "b m {count} d"]:
            t = Product(count * self.head_features, dtype=self.dtype, name=f"to_{name}")(t)
            return t.reshape(*t.shape[:-1], count, self.head_features)

        q, k, v = heads(x, self.num_heads, "q"), *(heads(source, self.source_heads, name) for name in "kv")
        if self.qk_norm:
            q, k = (LayerNorm(1e-6, name=f"{name}_norm")(t) for name, t in {"q": q, "k": k}.items())
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        out = attend(q, k, v, self.implementation)
        # The initial kernel is zero, so that a new layer does not change x.
        return Product(x.shape[-1], zero=True, dtype=self.dtype, name="to_out")(out.reshape(*out.shape[:2], -1))


class SwiGLU(nn.Module):
    """Returns ``linear(h * silu(gate))`` in the shape of x [..., c], where ``[h, gate] = linear(x)`` (Shazeer 2020,
    equation 6).

    ``y, variables = SwiGLU().init_with_output(key, x)`` gives y in the shape of x.

    Fields:
        multiplier: a number. h has ``multiplier * c`` features.
        dtype: the type of the computation and of the result.
    """

    multiplier: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
        inner, gate = halves(Linear(2 * self.multiplier * x.shape[-1], dtype=self.dtype, name="expand")(x))
        y = Product(x.shape[-1], zero=True, dtype=self.dtype, name="contract")(inner * nn.silu(gate))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return (full(y) + bias.astype(full(y).dtype)).astype(y.dtype)


class TransformerLayer(nn.Module):
    """Applies self-attention, cross-attention (if there is an embedding) and SwiGLU to x. Each of these three parts
    begins with a norm, and its result is added to x.

    With ``layer = TransformerLayer(8, 2, 2, False, None, jnp.float32)`` and ``angles = rotary_angles(n, 8)``, ``y,
    variables = layer.init_with_output(key, x, embedding, angles)`` gives y in the shape of x [b, n, c]. The fields are
    those of :class:`DiffusionTransformer`.
    """

    head_features: int
    num_heads: int
    embedding_heads: int
    qk_norm: bool
    implementation: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        embedding: Float[Array | np.ndarray, "b m e"] | None,
        angles: Float[Array, "n k"],
    ) -> Float[Array, "b n c"]:
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
    """Applies a diffusion transformer to x [b, n, c], with any number of channels.

    ``net = DiffusionTransformer(num_layers=2, num_heads=2)`` is a small net without conditioning. ``net.init(key, x,
    time)`` makes the variables. ``net.apply(variables, x, time)`` with time [b] returns [b, n, c]. Before training, the
    result is a linear map of x.

    Fields:
        num_layers: the number of layers.
        num_heads, head_features: the number of heads of queries, and the number of features of each head. Each token
            has num_heads * head_features features.
        embedding_features: the number of features of each token of the embedding, or None for a net without embedding.
        embedding_width: the number of features to which each token is projected before cross-attention, or None for
            embedding_features.
        embedding_heads: the number of heads of keys and values in cross-attention, a divisor of num_heads. If
            embedding_heads is None, this number is ``embedding_width // head_features``, which must be at least 1.
        global_features: the number of features per item, [b, global_features], or None for a net without features.
        time_features: the total number of sines and cosines that encode the time, an even number.
        rotary_features: the number of features of each head that are rotated, even and at most head_features. None
            rotates half of the features.
        qk_norm: whether a layer norm is applied to every query and key.
        implementation: "xla", "cudnn" or None, see :class:`archijax.nn.attention.Attention`.
        remat: whether the backward pass recomputes the intermediate results of a layer, to save memory.
        dtype: the type of the computation. The result is at least float32.

    Raises:
        InputError: rotary_features, time_features or embedding_heads is not an allowed value.
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
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        rotated = self._rotary_features
        if rotated % 2 or not 0 < rotated <= self.head_features:
            limit = f"at most head_features {self.head_features}"
            raise InputError(f"rotary_features is {rotated}: it must be even, above 0 and {limit}")
        if self.time_features % 2:
            raise InputError(f"time_features is {self.time_features}: it must be even, for as many sines as cosines")
        heads = self._embedding_heads
        if self.embedding_features is not None and (heads < 1 or self.num_heads % heads):
            raise InputError(f"embedding_heads is {heads}: a divisor of the {self.num_heads} heads is needed")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        time: Float[Array | np.ndarray, " b"] | None = None,
        *,
        features: Float[Array | np.ndarray, "b {self.global_features}"] | None = None,
        embedding: Float[Array | np.ndarray, "b tokens {self.embedding_features}"] | None = None,
        embedding_mask: Bool[Array | np.ndarray, " b"] | None = None,
        out_channels: int | None = None,
    ) -> Float[Array, "b n out"]:
        """Returns the prediction [b, n, out_channels], in at least float32.

        Args:
            time: the diffusion time of each item [b]. The time is required.
            features: one vector per sound [b, global_features], such as the encoded duration. The features are required
                if global_features is set.
            embedding: tokens [b, tokens, embedding_features] for cross-attention. The embedding is required if
                embedding_features is set.
            embedding_mask: a bool array [b]. Where the mask is True, zeros replace the embedding of the item. For the
                net, zeros mean "no embedding".
            out_channels: the number of channels of the result, or None for as many channels as x.

        Raises:
            InputError: an array is missing, has a wrong shape, or is not an input of this net.
        """
        self._check(x, time, features, embedding)
        # As in the original, the initial kernels of mix_in and mix_out are zero, so that both change nothing at first.
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
        """Returns the number of features of each token."""
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

    def _token(
        self, time: Float[Array | np.ndarray, " b"], features: Float[Array | np.ndarray, "b f"] | None
    ) -> Float[Array, "b {self.width}"]:
        """Returns the token that encodes time and features."""
        frequencies = self.param("time_frequencies", nn.initializers.normal(1.0), (self.time_features // 2,))
        # The angles are in at least float32, because high frequencies make them sensitive to rounding.
        angles = full(time)[:, None] * full(frequencies) * (2 * jnp.pi)
        waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        token = Projection(self.width, True, self.dtype, name="time")(waves)
        if features is None:
            return token
        return token + Projection(self.width, False, self.dtype, name="global")(features)

    def _check(self, x: Array, time: Any, features: Any, embedding: Any) -> None:
        if x.ndim != 3 or x.shape[1] == 0:
            raise InputError(f"x has shape {x.shape}: the transformer needs [batch, positions, channels]")
        b = len(x)
        expected = {
            "time": (time, (b,), 1),
            "features": (features, (b, self.global_features), self.global_features),
            "embedding": (embedding, (b, "tokens", self.embedding_features), self.embedding_features),
        }
        for name, (array, shape, size) in expected.items():
            if array is None and size is not None:
                raise InputError(f"the transformer needs {name} of shape {shape}, but there is none")
            if array is not None and size is None:
                raise InputError(f"this transformer takes no {name}, but there is one of shape {array.shape}")
            if array is not None and (array.ndim != len(shape) or any(
                size not in (actual, "tokens") for size, actual in zip(shape, array.shape, strict=True)
            )):  # fmt: skip
                raise InputError(f"the transformer's {name} has shape {array.shape}: {shape} is needed")
