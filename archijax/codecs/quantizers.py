"""Defines quantizers, which are bottlenecks with a finite set of latent vectors."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Key

from archijax.codecs.bottlenecks import Bottleneck, Draws, Info, Keys, with_channels
from archijax.errors import InputError
from archijax.nn.arrays import full


class FiniteScalarQuantizer(Bottleneck):
    """Rounds each channel to one of a few values in [-1, 1], with a straight-through gradient (Mentzer et al. 2023).

    ``latent, info = FiniteScalarQuantizer((8, 5, 5, 5))(x)`` needs no variables, because there is no learned codebook.
    The latent has the shape of x [b, n, channels]. Each group of len(levels) channels has one code. ``info`` has
    "codes" int32 [b, n, channels / len(levels)], which are below the product of the levels. ``info`` also has the
    scalar "usage": the share of the possible values of the channels that occur in the batch.

    Fields:
        levels: for each channel of a group, the number of its values, at least 2. The product of the levels is the
            number of codes of a group. For example, a group of four channels with levels (8, 8, 8, 8) has 12 bits. The
            number of channels of x must be a multiple of len(levels).
    """

    levels: Sequence[int] = (8, 5, 5, 5)

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        x = full(x)
        levels = self._of_channels(x.shape[-1])
        # Equation 1 and appendix A of the paper: if the number of values is even, the bounds are moved by a half.
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        bounded = jnp.tanh(x + np.arctanh(offset / half).astype(x.dtype)) * half.astype(x.dtype) - offset.astype(
            x.dtype
        )
        rounded = bounded + lax.stop_gradient(jnp.round(bounded) - bounded)
        width = (levels // 2).astype(x.dtype)
        digits = lax.stop_gradient(jnp.round(bounded) + width).astype(jnp.int32)
        counts = jax.nn.one_hot(digits, max(self.levels), dtype=x.dtype).max(tuple(range(x.ndim - 1)))
        return rounded / width, {"codes": self._to_codes(digits), "usage": counts.sum() / float(levels.sum())}

    def from_codes(self, codes: Int[Array, "b n groups"]) -> Float[Array, "b n groups*{len(self.levels)}"]:
        """Decodes ``info["codes"]`` to exactly the latent that encoding returned. This method needs no variables."""
        digits = codes[..., None] // self._basis() % np.asarray(self.levels, np.int32)
        width = np.asarray(self.levels, np.int32) // 2
        return ((digits - width).astype(jnp.float32) / width.astype(np.float32)).reshape(*codes.shape[:-1], -1)

    def _to_codes(self, digits: Int32[Array, "b n c"]) -> Int32[Array, "b n c//{len(self.levels)}"]:
        groups = digits.reshape(*digits.shape[:-1], -1, len(self.levels))
        return jnp.sum(groups * self._basis(), axis=-1, dtype=jnp.int32)

    def _basis(self) -> Int32[np.ndarray, " {len(self.levels)}"]:
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)

    def _of_channels(self, channels: int) -> Int[np.ndarray, " {channels}"]:
        """Returns, for each channel, the number of its possible values."""
        if not self.levels or min(self.levels) < 2 or np.prod(self.levels, dtype=np.float64) > 2**31:
            raise InputError(f"levels are {self.levels}: each must be at least 2, and their product at most 2^31")
        if channels % len(self.levels):
            raise InputError(
                f"{channels} channels do not divide into groups of {len(self.levels)} (levels {self.levels}): "
                f"use a multiple of {len(self.levels)} channels"
            )
        return np.tile(np.asarray(self.levels), channels // len(self.levels))


class VectorQuantizer(Bottleneck):
    """Replaces each latent vector by the nearest vector of a codebook, or by a sum of vectors of several codebooks.

    With ``quantizer = VectorQuantizer(channels=32)``, ``latent, info = quantizer.apply(quantizer.init(key, x), x)``
    returns a latent with the shape of x [b, n, channels]. ``info`` has "codes" int32 [b, n, num_levels], "perplexity"
    [num_levels] and the scalars "commitment" and "loss". "perplexity" is the effective number of codes in use.
    "commitment" is the mean squared difference between the input of a level and the chosen vectors. "loss" is
    "commitment" times ``commitment_weight``.

    There is one codebook per level. Each level after the first quantizes the residual of the levels before it, as in a
    residual vector quantizer (Zeghidour et al. 2021). The quantizer is trained as in VQ-VAE (van den Oord et al. 2017),
    with a straight-through gradient and a commitment loss. Codebook vectors are moving averages of the vectors that
    chose them (appendix A.1).

    The codebooks are not parameters. The collection "state" holds "codebook" [num_levels, num_codes, channels] and
    "usage" [num_levels, num_codes], a moving average of the share of vectors that chose each code. A training call
    updates both arrays if the collection is mutable: ``apply(variables, x, keys=keys, train=True, mutable=["state"])``.
    A code that is hardly used is replaced by a vector of the batch. At the start all codes are unused, so vectors of
    the first batches fill the codebooks.

    If ``dropout`` is above 0, one net learns several bit rates. In training, only the first levels of some items are
    then decoded (Zeghidour et al. 2021, section III.C). All levels of these items still update the codebooks.

    Fields:
        channels: the number of channels of the latent.
        num_codes: the number of codes per level.
        num_levels: the number of levels.
        decay: the decay of the moving averages, per training call.
        commitment_weight: the weight of "commitment" in "loss".
        dropout: the probability that a training item uses a random number of levels (uniform from 1 to num_levels).
        revive_below: a code is replaced if its usage falls below ``revive_below / num_codes``.
        axis_name: the axis over which ``pmap`` or ``shard_map`` splits a training batch evenly. Statistics are averaged
            over this axis, and unused codes are replaced by vectors from all devices. All devices thus have the same
            codebooks. None: no mapped axis, as under ``jit`` with shardings.
    """

    channels: int
    num_codes: int = 1024
    num_levels: int = 1
    decay: float = 0.99
    commitment_weight: float = 0.25
    dropout: float = 0.0
    revive_below: float = 0.1
    axis_name: str | None = None

    def setup(self):
        shape = (self.num_levels, self.num_codes, self.channels)
        self.codebook = self.variable("state", "codebook", lambda: jax.random.normal(self.make_rng("params"), shape))
        self.usage = self.variable("state", "usage", lambda: jnp.zeros(shape[:2]))

    def draw(
        self, keys: Key[Array, " b"], shape: tuple[int, int]
    ) -> Float[Array, "b n {self.num_levels}"] | tuple[Float[Array, "b n {self.num_levels}"], Int[Array, " b"]]:
        """Draws a rank for each vector and level, uniformly in [0, 1). Vectors with the highest ranks replace unused
        codes.

        ``shape`` is (n, channels). With dropout, the result is (the ranks, the number of levels of each item).
        """
        ranks = jax.vmap(lambda key: jax.random.uniform(key, (shape[0], self.num_levels)))(keys)
        if not self.dropout:
            return ranks

        def count(key: Key[Array, ""]) -> Int[Array, ""]:
            count_key, dropout_key = jax.random.split(jax.random.fold_in(key, 1))
            drawn = jax.random.randint(count_key, (), 1, self.num_levels + 1)
            return jnp.where(jax.random.uniform(dropout_key) < self.dropout, drawn, self.num_levels)

        return ranks, jax.vmap(count)(keys)

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        x = full(with_channels(x, self.channels))
        update = train and self.is_mutable_collection("state") and not self.is_initializing()
        ranks = self._draws(x, keys, draws, train) if update else None
        num_levels = None
        if update and self.dropout:
            ranks, num_levels = ranks
        total, residual, commitment, codes, perplexity, states = jnp.zeros_like(x), x, 0.0, [], [], []
        for level in range(self.num_levels):
            book, usage = self.codebook.value[level], self.usage.value[level]
            codes.append(_nearest(lax.stop_gradient(residual), book))
            chosen = jax.nn.one_hot(codes[-1].reshape(-1), self.num_codes, dtype=book.dtype)
            share = self._average(chosen.mean(0)) if train else chosen.mean(0)
            perplexity.append(jnp.exp(-jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)))))
            if update:
                vectors = lax.stop_gradient(residual).reshape(-1, self.channels).astype(book.dtype)
                states.append(self._moved(book, usage, chosen, share, vectors, ranks[..., level].reshape(-1)))
            quantized = lax.stop_gradient(book[codes[-1]].astype(x.dtype))
            commitment += jnp.mean(jnp.square(residual - quantized)) / self.num_levels
            residual = residual - quantized
            total += quantized if num_levels is None else jnp.where((level < num_levels)[:, None, None], quantized, 0)
        if update:
            self.codebook.value, self.usage.value = (jnp.stack(values) for values in zip(*states, strict=True))
        info = {"codes": jnp.stack(codes, -1), "perplexity": jnp.stack(perplexity)}
        info |= {"loss": self.commitment_weight * commitment, "commitment": commitment}
        return x + lax.stop_gradient(total - x), info

    def from_codes(self, codes: Int[Array, "b n levels"]) -> Float[Array, "b n {self.channels}"]:
        """Decodes ``info["codes"]`` to the latent. The codes of only the first levels give a coarser latent.

        Call ``quantizer.apply(variables, codes, method="from_codes")``. If the quantizer is the only bottleneck of an
        :class:`AutoEncoder1d`, its variables are ``{"state": variables["state"]["encoder"]["bottlenecks_0"]}``.

        Raises:
            InputError: codes have more levels than the quantizer.
        """
        if codes.shape[-1] > self.num_levels:
            raise InputError(f"codes have shape {codes.shape}: the last axis may have at most {self.num_levels} levels")
        return sum(self.codebook.value[level][codes[..., level]] for level in range(codes.shape[-1]))

    def _moved(
        self,
        book: Float[Array, "k c"],
        usage: Float[Array, " k"],
        chosen: Float[Array, "m k"],
        share: Float[Array, " k"],
        vectors: Float[Array, "m c"],
        ranks: Float[Array, " m"],
    ) -> tuple[Float[Array, "k c"], Float[Array, " k"]]:
        """Returns (codebook, usage) of one level, updated by a batch.

        Args:
            book, usage: the codebook and the usage before the batch.
            chosen: the code of each vector, one-hot.
            share: the share of vectors that chose each code.
            vectors: the vectors that the level quantizes.
            ranks: the rank of each vector (see :meth:`draw`).
        """
        sums = self._average(jnp.matmul(chosen.T, vectors, precision=lax.Precision.HIGHEST) / len(vectors))
        moved = self.decay * usage[:, None] * book + (1 - self.decay) * sums
        usage = self.decay * usage + (1 - self.decay) * share
        used = usage > 1e-20
        book = jnp.where(used[:, None], moved / jnp.where(used, usage, 1)[:, None], book)

        _, order = lax.top_k(ranks, min(self.num_codes, len(ranks)))
        vectors, ranks = vectors[order], ranks[order]
        if self.axis_name is not None:
            vectors, ranks = lax.all_gather((vectors, ranks), self.axis_name, tiled=True)
            _, order = lax.top_k(ranks, min(self.num_codes, len(ranks)))
            vectors = vectors[order]
        dead = usage < self.revive_below / self.num_codes
        index = jnp.cumsum(dead) - 1  # the vector with the i-th highest rank replaces the i-th dead code
        revived = dead & (index < len(vectors))
        book = jnp.where(revived[:, None], vectors[jnp.clip(index, 0, len(vectors) - 1)], book)
        return book, jnp.where(revived, 1 / self.num_codes, usage)

    def _average(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # Initialisation runs outside of the mapped axis.
        return value if self.axis_name is None or self.is_initializing() else lax.pmean(value, self.axis_name)


def _nearest(x: Float[Array, "b n c"], book: Float[Array, "k c"]) -> Int32[Array, "b n"]:
    """Returns the index of the codebook vector that is nearest to each vector of x."""
    products = jnp.matmul(x, book.T.astype(x.dtype), precision=lax.Precision.HIGHEST)
    return jnp.argmin(jnp.sum(jnp.square(book), axis=-1).astype(x.dtype) - 2 * products, axis=-1).astype(jnp.int32)


def over_axis(bottleneck: Bottleneck | Sequence[Bottleneck], axis: str) -> tuple[Bottleneck, ...]:
    """Returns a tuple of bottlenecks for batches that are split over a mapped axis.

    Each :class:`VectorQuantizer` gets ``axis`` as its ``axis_name``. Other bottlenecks stay the same.
    """
    bottlenecks = bottleneck if isinstance(bottleneck, Sequence) else (bottleneck,)
    return tuple(each.clone(axis_name=axis) if isinstance(each, VectorQuantizer) else each for each in bottlenecks)
