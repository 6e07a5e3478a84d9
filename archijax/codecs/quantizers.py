"""Quantizers: bottlenecks whose latents are one of finitely many."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from archijax.codecs.bottlenecks import Bottleneck, with_channels
from archijax.errors import InputError
from archijax.nn.arrays import full


class FiniteScalarQuantizer(Bottleneck):
    """Rounds each channel to one of a few values in [-1, 1], with a straight-through gradient (Mentzer et al. 2023).

    There is no codebook to learn or to lose. ``info`` has "codes" int32 [b, n, channels / len(levels)], each below the
    product of the levels, and "usage", the share of all channels' values that the batch uses.

    Fields:
        levels: how many values a channel has, for each channel of a group; groups follow each other. Their product is
            the number of codes of a group: (8, 8, 8, 8) are four channels of 12 bits together.
    """

    levels: Sequence[int] = (8, 5, 5, 5)

    def __call__(self, x, *, keys=None, draws=None, train=False):
        x = full(x)
        levels = self._of_channels(x.shape[-1])
        # Equation 1 and appendix A: of an even number of values none is zero, and the bound moves by a half.
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

    def from_codes(self, codes: jax.Array) -> jax.Array:
        """The latent [b, n, channels] of codes [b, n, channels / len(levels)]: exactly the one that had them."""
        digits = codes[..., None] // self._basis() % np.asarray(self.levels, np.int32)
        width = np.asarray(self.levels, np.int32) // 2
        return ((digits - width).astype(jnp.float32) / width.astype(np.float32)).reshape(*codes.shape[:-1], -1)

    def _to_codes(self, digits: jax.Array) -> jax.Array:
        groups = digits.reshape(*digits.shape[:-1], -1, len(self.levels))
        return jnp.sum(groups * self._basis(), axis=-1, dtype=jnp.int32)

    def _basis(self) -> np.ndarray:
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)

    def _of_channels(self, channels: int) -> np.ndarray:
        if not self.levels or min(self.levels) < 2 or np.prod(self.levels, dtype=np.float64) > 2**31:
            raise InputError(f"levels are {self.levels}: 2 or more each, and a product of at most 2^31, are needed")
        if channels % len(self.levels):
            raise InputError(
                f"{channels} channels do not divide into groups of {len(self.levels)} (levels {self.levels}): "
                "make the channels a multiple"
            )
        return np.tile(np.asarray(self.levels), channels // len(self.levels))


class VectorQuantizer(Bottleneck):
    """Replaces each latent by the nearest of ``num_codes`` vectors, what remains by the next level's, and so on.

    VQ-VAE (van den Oord et al. 2017) with a straight-through gradient, a commitment loss, and a codebook that follows
    the encoder by moving averages (its appendix A.1); levels as in residual quantisation (Zeghidour et al. 2021).
    The codebook is no parameter: it lives in the collection "state", "codebook" [num_levels, num_codes, channels] and
    "usage" [num_levels, num_codes], each code's share of the latents, and a training call that may write that
    collection (``apply(..., train=True, mutable=["state"])``) moves it. A code that is hardly used becomes one of the
    batch's own latents; since no code is used at the start, the first batches fill the codebook.

    ``info`` has "codes" int32 [b, n, num_levels], "loss", "commitment" (the loss without its weight) and "perplexity"
    [num_levels], as many codes as the batch would use if it used them evenly.

    With ``dropout`` one net learns several bit rates: some items of a training batch are given to the decoder by their
    first levels alone (Zeghidour et al. 2021, section III.C). Codebooks learn from all of them.

    Fields:
        channels: of the latent.
        decay: of the moving averages, per training call.
        commitment_weight: of the mean squared distance between latents and their codes.
        dropout: share of a training batch's items whose number of levels is drawn, each number as often.
        revive_below: a code whose share of the latents falls under this part of an even share is replaced.
        axis_name: the axis that ``pmap`` or ``shard_map`` splits the training batch over, into equal parts: sums are
            averaged over it, and latents for dead codes come from all of it, so that every device keeps the same
            codebook. Under ``jit`` with shardings: None.
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

    def draw(self, keys, shape):
        """Ranks [b, n, num_levels] in [0, 1): the latents of the highest ones take the places of dead codes.

        With dropout a pair of these and the number of levels of each item [b].
        """
        ranks = jax.vmap(lambda key: jax.random.uniform(key, (shape[0], self.num_levels)))(keys)
        if not self.dropout:
            return ranks

        def count(key: jax.Array) -> jax.Array:
            first, second = jax.random.split(jax.random.fold_in(key, 1))
            drawn = jax.random.randint(first, (), 1, self.num_levels + 1)
            return jnp.where(jax.random.uniform(second) < self.dropout, drawn, self.num_levels)

        return ranks, jax.vmap(count)(keys)

    def __call__(self, x, *, keys=None, draws=None, train=False):
        x = full(with_channels(x, self.channels))
        update = train and self.is_mutable_collection("state") and not self.is_initializing()
        ranks = self._draws(x, keys, draws, train) if update else None
        kept = None
        if update and self.dropout:
            ranks, kept = ranks
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
            used = quantized if kept is None else jnp.where((level < kept)[:, None, None], quantized, 0)
            total = total + used
        if update:
            self.codebook.value, self.usage.value = (jnp.stack(values) for values in zip(*states, strict=True))
        info = {"codes": jnp.stack(codes, -1), "perplexity": jnp.stack(perplexity)}
        info |= {"loss": self.commitment_weight * commitment, "commitment": commitment}
        return x + lax.stop_gradient(total - x), info

    def from_codes(self, codes: jax.Array) -> jax.Array:
        """The latent [b, n, channels] of codes [b, n, num_levels]; with fewer levels a coarser one."""
        if codes.shape[-1] > self.num_levels:
            raise InputError(f"codes have shape {codes.shape}: the last axis may be at most {self.num_levels} levels")
        return sum(self.codebook.value[level][codes[..., level]] for level in range(codes.shape[-1]))

    def _moved(
        self,
        book: jax.Array,
        usage: jax.Array,
        chosen: jax.Array,
        share: jax.Array,
        vectors: jax.Array,
        ranks: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """One level's codebook [k, c] and usage [k] after a batch of vectors [m, c] that chose [m, k], one-hot."""
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
        place = jnp.cumsum(dead) - 1
        revived = dead & (place < len(vectors))
        book = jnp.where(revived[:, None], vectors[jnp.clip(place, 0, len(vectors) - 1)], book)
        return book, jnp.where(revived, 1 / self.num_codes, usage)

    def _average(self, value: jax.Array) -> jax.Array:
        # Initialisation runs outside the mapped axis.
        return value if self.axis_name is None or self.is_initializing() else lax.pmean(value, self.axis_name)


def _nearest(x: jax.Array, book: jax.Array) -> jax.Array:
    """Index int32 [b, n] of the vector of a book [k, c] nearest to each of x [b, n, c]."""
    products = jnp.matmul(x, book.T.astype(x.dtype), precision=lax.Precision.HIGHEST)
    return jnp.argmin(jnp.sum(jnp.square(book), axis=-1).astype(x.dtype) - 2 * products, axis=-1).astype(jnp.int32)


def over_axis(bottleneck: Bottleneck | Sequence[Bottleneck], axis: str) -> tuple[Bottleneck, ...]:
    """Bottlenecks that count over a mapped axis, which the training batch is split over."""
    parts = bottleneck if isinstance(bottleneck, Sequence) else (bottleneck,)
    return tuple(part.clone(axis_name=axis) if isinstance(part, VectorQuantizer) else part for part in parts)
