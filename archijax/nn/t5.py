"""Contains the T5 encoder in Flax, which encodes the prompts of models that read text.

The paper is Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
(https://arxiv.org/abs/1910.10683). T5 1.0 has a ReLU feed-forward layer. T5 1.1, Flan and ByT5 have a gated GELU
feed-forward layer.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from archijax.errors import InputError


@dataclass(frozen=True)
class T5Config:
    """Holds the sizes of a T5 encoder. The fields have the names of Hugging Face's config.json.

    Args:
        vocab_size: the number of token ids, at least ``len(tokenizer)``. For the tokenizer "bytes", this length is 259.
        d_model: the number of features of each token, inside the encoder and in its output.
        d_kv: the number of features of each attention head. `num_heads * d_kv` can differ from `d_model`.
        d_ff: the number of hidden features of the feed-forward layer.
        num_layers: the number of layers.
        num_heads: the number of attention heads.
        relative_attention_num_buckets: the number of buckets of relative positions, even and at least 4.
        relative_attention_max_distance: a distance in tokens. All positions that are at least this far away share the
            last bucket. The distance must be above a quarter of the number of buckets.
        layer_norm_epsilon: a float that every norm adds to the mean square, above 0 and below 1.
        gated: whether the feed-forward layer is gated and has a tanh GELU, as in T5 1.1, Flan and ByT5. An ungated
            layer has a ReLU.

    Raises:
        InputError: a size is not a positive integer, or another field is out of its range.
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
                raise InputError(f"T5's {field.name} is {size!r}: it must be a positive integer")
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets % 2 or buckets < 4 or distance <= buckets // 4:
            needed = "use an even number of at least 4 buckets, and a distance above a quarter of it"
            raise InputError(f"T5's {buckets} buckets do not fit relative positions up to {distance}: {needed}")
        if type(self.layer_norm_epsilon) is not float or not 0 < self.layer_norm_epsilon < 1:
            raise InputError(f"T5's layer_norm_epsilon is {self.layer_norm_epsilon!r}: it must be between 0 and 1")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> "T5Config":
        """Makes a T5Config from the contents of a Hugging Face config.json.

        The keys vocab_size, d_model, d_kv, d_ff, num_layers and num_heads are required. Fields of the decoder are
        ignored.

        Raises:
            InputError: the model is not a T5 model, a field is missing, or this encoder does not support the value of a
                field.
        """
        kind = config.get("model_type", "t5")
        if kind not in ("t5", "mt5"):
            raise InputError(f"model_type in the T5 model's config.json is {kind!r}: it must be 't5' or 'mt5'")
        activation = config.get("feed_forward_proj", "relu")
        if activation not in ("relu", "gated-gelu"):
            raise InputError(f"T5's feed_forward_proj is {activation!r}: it must be 'relu' or 'gated-gelu'")
        sizes = {f.name: config[f.name] for f in fields(cls) if f.name != "gated" and f.name in config}
        if missing := [f.name for f in fields(cls) if f.default is MISSING and f.name not in sizes]:
            raise InputError(f"the T5 model's config.json lacks {', '.join(missing)}")
        return cls(**sizes, gated=activation == "gated-gelu")


def relative_buckets(
    distance: Int[np.ndarray, "*shape"], num_buckets: int, max_distance: int
) -> Int32[np.ndarray, "*shape"]:
    """Returns the bucket, from 0 to num_buckets - 1, of each signed distance in tokens (key position minus query
    position).

    The second half of the buckets is for keys after the query, and the first half is for all other keys. In each half,
    the first buckets hold one distance each. The later buckets hold ranges of distances, whose limits are spaced
    logarithmically up to `max_distance` (section 2.1 of the paper). `num_buckets` is even and at least 4, and
    `max_distance` is above num_buckets / 4.
    """
    # numpy computes the buckets: logarithms on accelerators differ in the last bit, which would move some distances to
    # the bucket below. The precision is single, as in the training of the pretrained models.
    half, exact = num_buckets // 2, num_buckets // 2 // 2
    size = np.abs(distance)
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    coarse = exact + (ratio / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)).astype(int)
    bucket = np.where(size < exact, size, np.minimum(coarse, half - 1))
    return (bucket + half * (distance > 0)).astype(np.int32)


def _dense(features: int, fan_in: int, dtype: DTypeLike, name: str) -> nn.Dense:
    # T5 scales the initial weights of `q` instead of the attention scores: the fan_in of `q` is multiplied by d_kv.
    init = nn.initializers.normal(fan_in**-0.5)
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=init, name=name)


class Attention(nn.Module):
    """Applies self-attention to x. A bias that depends on relative positions is added to the scores before the softmax.

    ``y, variables = Attention(config, jnp.float32).init_with_output(key, x, bias)`` gives y [b, n, config.d_model]. The
    config is a :class:`T5Config`.
    """

    config: T5Config
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], bias: Float32[Array, "#b h n n"]) -> Float[Array, "b n d"]:
        c = self.config
        inner = c.num_heads * c.d_kv
        heads = (*x.shape[:2], c.num_heads, c.d_kv)
        fans = {"q": c.d_model * c.d_kv, "k": c.d_model, "v": c.d_model}
        q, k, v = (_dense(inner, fans[name], self.dtype, name)(x).reshape(heads) for name in "qkv")
        # The axis of heads comes before that of positions, because products over neighbouring axes are faster on CPU.
        q, k, v = (jnp.swapaxes(array, 1, 2) for array in (q, k, v))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores + bias, axis=-1).astype(self.dtype)
        mixed = jnp.swapaxes(jnp.einsum("bhqk,bhkd->bhqd", weights, v), 1, 2).reshape(*x.shape[:2], inner)
        return _dense(c.d_model, inner, self.dtype, "o")(mixed)


class FeedForward(nn.Module):
    """Applies the feed-forward layer, which has two matrices, or three if ``config.gated`` is True.

    ``y, variables = FeedForward(config, jnp.float32).init_with_output(key, x)`` gives y [b, n, config.d_model]. The
    config is a :class:`T5Config`.
    """

    config: T5Config
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        c = self.config
        if c.gated:
            gate = nn.gelu(_dense(c.d_ff, c.d_model, self.dtype, "wi_0")(x), approximate=True)
            hidden = gate * _dense(c.d_ff, c.d_model, self.dtype, "wi_1")(x)
        else:
            hidden = nn.relu(_dense(c.d_ff, c.d_model, self.dtype, "wi")(x))
        return _dense(c.d_model, c.d_ff, self.dtype, "wo")(hidden)


class Layer(nn.Module):
    """Applies one layer of the encoder: adds to x the result of attention, then the result of the feed-forward layer.

    ``y, variables = Layer(config, jnp.float32).init_with_output(key, x, bias)`` gives y [b, n, config.d_model]. The
    config is a :class:`T5Config`.
    """

    config: T5Config
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float32[Array, "b n d"], bias: Float32[Array, "#b h n n"]) -> Float32[Array, "b n d"]:
        # x is float32: in trained models its values grow to thousands, for which bfloat16 is too coarse.
        y = _norm(self.config, "attention_norm")(x)
        x = x + Attention(self.config, self.dtype, name="attention")(y, bias).astype(jnp.float32)
        y = _norm(self.config, "feed_forward_norm")(x)
        return x + FeedForward(self.config, self.dtype, name="feed_forward")(y).astype(jnp.float32)


def _norm(config: T5Config, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=config.layer_norm_epsilon, dtype=jnp.float32, name=name)


T5_BASE = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)


class T5Encoder(nn.Module):
    """Encodes token ids to vectors by the encoder of a T5 model.

    ``T5Encoder(T5Config(vocab_size=259, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2))`` is a small encoder.
    ``encoder.init(key, tokens, mask)`` makes the variables, and ``encoder.apply(variables, tokens, mask)`` returns [b,
    n, d_model]. The encoder has no dropout, so the call is the same in training and in sampling.

    Args:
        config: the sizes of the encoder.
        dtype: the type of the matrix products and of the output. Parameters, norms, softmax and residual sums are
            float32.
        zero_padding: whether the output at padding is set to zero, unlike in the original T5.
    """

    config: T5Config = T5_BASE
    dtype: DTypeLike = jnp.float32
    zero_padding: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array | np.ndarray, "b n"],
        mask: Bool[Array | np.ndarray, "b n"],
        placeholders: Float[Array | np.ndarray, "k d"] | None = None,
    ) -> Float[Array, "b n {self.config.d_model}"]:
        """Encodes a batch of texts to vectors [b, n, d_model] of the type `dtype`.

        Args:
            tokens: ids from 0 to `config.vocab_size` - 1. A larger id gives NaN vectors.
            mask: a bool array [b, n], True for tokens of the text and False for padding. No token attends to padding.
            placeholders: the embeddings [k, d_model] of placeholder tokens. The ids of these tokens are -1, -2, ... -k.

        Raises:
            InputError: tokens are not integers [b, n], or the mask is not bool [b, n].
        """
        c = self.config
        if tokens.ndim != 2 or tokens.shape != mask.shape:
            shapes = f"tokens have shape {list(tokens.shape)} and the mask has {list(mask.shape)}"
            raise InputError(f"{shapes}: T5 needs [batch, length] for both")
        if not jnp.issubdtype(tokens.dtype, jnp.integer) or mask.dtype != bool:
            raise InputError(f"tokens are {tokens.dtype} and the mask is {mask.dtype}: T5 needs int32 and bool")
        normal = nn.initializers.normal
        known = tokens if placeholders is None else jnp.maximum(tokens, 0)
        x = nn.Embed(c.vocab_size, c.d_model, embedding_init=normal(1.0), name="embed")(known)
        if placeholders is not None:
            x = jnp.where(tokens[..., None] < 0, placeholders[jnp.maximum(-1 - tokens, 0)], x)
        # The bias is computed once per distance, then looked up for every [query, key]. All layers share it.
        n, num_buckets = tokens.shape[1], c.relative_attention_num_buckets
        buckets = relative_buckets(np.arange(1 - n, n), num_buckets, c.relative_attention_max_distance)
        table = nn.Embed(num_buckets, c.num_heads, embedding_init=normal(c.d_model**-0.5), name="relative_bias")
        position = jnp.arange(n)
        bias = table(jnp.asarray(buckets))[position[None, :] - position[:, None] + n - 1].transpose(2, 0, 1)
        # The lowest finite number is used instead of -inf, so that a text of padding alone gives no NaN.
        bias = jnp.where(mask[:, None, None, :], bias[None], jnp.finfo(jnp.float32).min)
        for i in range(c.num_layers):
            x = Layer(c, self.dtype, name=f"layers_{i}")(x, bias)
        x = _norm(c, "norm")(x)
        return (jnp.where(mask[..., None], x, 0.0) if self.zero_padding else x).astype(self.dtype)
