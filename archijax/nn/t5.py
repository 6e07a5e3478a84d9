"""The T5 encoder: the text half of a text-conditional model, in Flax, with weights from Hugging Face safetensors.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
(https://arxiv.org/abs/1910.10683). T5 1.0 has a ReLU feed-forward layer; 1.1, Flan and ByT5 a gated GELU one.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError


@dataclass(frozen=True)
class T5Config:
    """Sizes of a T5 encoder, named as in Hugging Face's config.json.

    Args:
        vocab_size: Number of token ids; at least `len(tokenizer)`, which is 259 for the tokenizer "bytes".
        d_model: Features of the residual stream and of the output.
        d_kv: Features of one attention head (`num_heads * d_kv` need not be `d_model`).
        d_ff: Hidden features of the feed-forward layer.
        num_layers: Number of layers.
        num_heads: Number of attention heads.
        relative_attention_num_buckets: Buckets of relative positions, an even number of at least 4.
        relative_attention_max_distance: Distance in tokens from which on all positions share the last bucket.
        layer_norm_epsilon: Added to the mean square in every norm.
        gated: False for the ReLU layer of T5 1.0, True for the gated tanh-GELU layer of 1.1, Flan and ByT5.

    Raises:
        InputError: a size is not a positive integer, or the buckets do not fit.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    gated: bool = False

    def __post_init__(self):
        for field in fields(self):
            size = getattr(self, field.name)
            if field.type is int and (type(size) is not int or size < 1):
                raise InputError(f"T5's {field.name} is {size!r}, it should be a positive integer")
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets % 2 or buckets < 4 or distance <= buckets // 4:
            fitting = "an even number of at least 4 buckets, and a distance above a quarter of it, would"
            raise InputError(f"T5's {buckets} buckets for relative positions up to {distance} do not fit: {fitting}")
        if type(self.layer_norm_epsilon) is not float or not 0 < self.layer_norm_epsilon < 1:
            raise InputError(f"T5's layer_norm_epsilon is {self.layer_norm_epsilon!r}, it should be between 0 and 1")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """The configuration in the contents of a Hugging Face config.json; what is not the encoder's is ignored.

        Raises:
            InputError: not a T5 model, a field is missing, or a value is none that this encoder can have.
        """
        kind = config.get("model_type", "t5")
        if kind not in ("t5", "mt5"):
            raise InputError(f"model_type in the T5 model's config.json is {kind!r}, it should be 't5' or 'mt5'")
        activation = config.get("feed_forward_proj", "relu")
        if activation not in ("relu", "gated-gelu"):
            raise InputError(f"T5's feed_forward_proj is {activation!r}, it should be 'relu' or 'gated-gelu'")
        sizes = {f.name: config[f.name] for f in fields(cls) if f.name != "gated" and f.name in config}
        if missing := [f.name for f in fields(cls) if f.default is MISSING and f.name not in sizes]:
            raise InputError(f"the T5 model's config.json lacks {', '.join(missing)}")
        return cls(**sizes, gated=activation == "gated-gelu")


def relative_buckets(distance: np.ndarray, num_buckets: int, max_distance: int) -> np.ndarray:
    """Bucket of each signed distance (key position minus query position), in both directions.

    Half of the buckets are for keys after the query. Within a half, the first half is one bucket per token, the rest
    grows with the logarithm up to `max_distance` (section 2.1 of the paper).

    Args:
        distance: Integers of any shape, in tokens.

    Returns:
        int32 of the same shape, in [0, num_buckets).
    """
    # In numpy, not jnp: logarithms of accelerators differ in the last bit, which would move whole numbers to the
    # bucket below. Single precision is what the pretrained models were made with.
    half, exact = num_buckets // 2, num_buckets // 2 // 2
    size = np.abs(distance)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    coarse = exact + (ratio / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)).astype(int)
    bucket = np.where(size < exact, size, np.minimum(coarse, half - 1))
    return (bucket + half * (distance > 0)).astype(np.int32)


def _dense(features: int, spread: int, dtype: jnp.dtype, name: str) -> nn.Dense:
    # T5 scales the initial weights of `q`, not the attention scores: `spread` is more than the fan-in there.
    init = nn.initializers.normal(spread**-0.5)
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=init, name=name)


class Attention(nn.Module):
    """Self-attention over [b, n, d_model]; `bias` [1 or b, h, n, n] is float32 and added to the scores."""

    config: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        c = self.config
        inner = c.num_heads * c.d_kv
        heads = (*x.shape[:2], c.num_heads, c.d_kv)
        spreads = {"q": c.d_model * c.d_kv, "k": c.d_model, "v": c.d_model}
        q, k, v = (_dense(inner, spreads[name], self.dtype, name)(x).reshape(heads) for name in "qkv")
        # Heads go first, as on CPU products are faster over axes side by side.
        q, k, v = (jnp.swapaxes(array, 1, 2) for array in (q, k, v))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores + bias, axis=-1).astype(self.dtype)
        mixed = jnp.swapaxes(jnp.einsum("bhqk,bhkd->bhqd", weights, v), 1, 2).reshape(*x.shape[:2], inner)
        return _dense(c.d_model, inner, self.dtype, "o")(mixed)


class FeedForward(nn.Module):
    """The two or, gated, three matrices of a layer, over [b, n, d_model]."""

    config: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        if c.gated:
            gate = nn.gelu(_dense(c.d_ff, c.d_model, self.dtype, "wi_0")(x), approximate=True)
            hidden = gate * _dense(c.d_ff, c.d_model, self.dtype, "wi_1")(x)
        else:
            hidden = nn.relu(_dense(c.d_ff, c.d_model, self.dtype, "wi")(x))
        return _dense(c.d_model, c.d_ff, self.dtype, "wo")(hidden)


class Layer(nn.Module):
    """One layer on the float32 residual stream [b, n, d_model]."""

    config: T5Config
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        # The stream itself stays float32: it grows to thousands in trained models, where bfloat16 has no digits left.
        y = _norm(self.config, "attention_norm")(x)
        x = x + Attention(self.config, self.dtype, name="attention")(y, bias).astype(jnp.float32)
        y = _norm(self.config, "feed_forward_norm")(x)
        return x + FeedForward(self.config, self.dtype, name="feed_forward")(y).astype(jnp.float32)


def _norm(config: T5Config, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=config.layer_norm_epsilon, dtype=jnp.float32, name=name)


T5_BASE = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)


class T5Encoder(nn.Module):
    """The encoder of a T5 model. It has no dropout: the same call serves training and use.

    Args:
        config: The sizes.
        dtype: Type of the matrix products and of the output; parameters, norms, softmax and residuals are float32.
        zero_padding: Whether positions of padding are zeros; else they hold values too, as in the original.
    """

    config: T5Config = T5_BASE
    dtype: jnp.dtype = jnp.float32
    zero_padding: bool = False

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array, placeholders: jax.Array | None = None) -> jax.Array:
        """Encodes a batch of texts.

        Args:
            tokens: int32 [b, n], ids below `config.vocab_size` (an id from there on makes NaN).
            mask: bool [b, n], False where a token is padding: nothing attends to it.
            placeholders: float32 [k, d_model], the embeddings of the ids -1, -2, ... -k: words that the table lacks.

        Returns:
            `dtype` [b, n, d_model].

        Raises:
            InputError: tokens and mask are not integers and booleans of one shape [b, n].
        """
        c = self.config
        if tokens.ndim != 2 or tokens.shape != mask.shape:
            shapes = f"tokens {list(tokens.shape)} and mask {list(mask.shape)}"
            raise InputError(f"T5 got {shapes}: both should be [batch, length]")
        if not jnp.issubdtype(tokens.dtype, jnp.integer) or mask.dtype != bool:
            raise InputError(f"T5 got {tokens.dtype} tokens and a {mask.dtype} mask: they should be int32 and bool")
        normal = nn.initializers.normal
        known = tokens if placeholders is None else jnp.maximum(tokens, 0)
        x = nn.Embed(c.vocab_size, c.d_model, embedding_init=normal(1.0), name="embed")(known)
        if placeholders is not None:
            x = jnp.where(tokens[..., None] < 0, placeholders[jnp.maximum(-1 - tokens, 0)], x)
        # One bias for each distance, then spread over [query, key]; the layers share it.
        n, num_buckets = tokens.shape[1], c.relative_attention_num_buckets
        buckets = relative_buckets(np.arange(1 - n, n), num_buckets, c.relative_attention_max_distance)
        table = nn.Embed(num_buckets, c.num_heads, embedding_init=normal(c.d_model**-0.5), name="relative_bias")
        position = jnp.arange(n)
        bias = table(jnp.asarray(buckets))[position[None, :] - position[:, None] + n - 1].transpose(2, 0, 1)
        # The lowest number, not -inf: a text of padding alone attends evenly instead of making NaN.
        bias = jnp.where(mask[:, None, None, :], bias[None], jnp.finfo(jnp.float32).min)
        for i in range(c.num_layers):
            x = Layer(c, self.dtype, name=f"layers_{i}")(x, bias)
        x = _norm(c, "norm")(x)
        return (jnp.where(mask[..., None], x, 0.0) if self.zero_padding else x).astype(self.dtype)


# --- Weights: PyTorch names to Flax names and back ---
