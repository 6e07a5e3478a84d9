"""Bottlenecks: what stands between an encoder and a decoder, and makes a latent bounded, noisy or discrete.

Every bottleneck is a module of one interface, ``bottleneck(x, *, keys=None, draws=None, train=False) -> (latent,
info)``: x and the latent are [b, n, channels], ``info`` is a dict of arrays, in it "loss" where there is something to
minimise. What is random comes from ``keys``, one per item, or from ``draws``, the random numbers themselves as
:meth:`Bottleneck.draw` makes them. Several in sequence are a tuple that encoders take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from archijax.errors import InputError
from archijax.keys import stream
from archijax.nn.arrays import full
from archijax.nn.linear import Conv


class Bottleneck(nn.Module):
    """The interface; by itself it changes nothing."""

    def draw(self, keys: jax.Array, shape: tuple[int, int]) -> jax.Array | None:
        """Random numbers for items with keys [b] and shape [n, channels]; None if it needs none."""
        return None

    def __call__(
        self, x: jax.Array, *, keys: jax.Array | None = None, draws: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps x [b, n, channels] to (latent [b, n, channels], info).

        Args:
            keys: one key per item [b].
            draws: the random numbers instead of keys.
            train: True in training; False is the form for use.

        Raises:
            InputError: training without keys or draws where something is random.
        """
        return x, {}

    def _draws(self, x: jax.Array, keys: jax.Array | None, draws: jax.Array | None, train: bool) -> jax.Array | None:
        if draws is not None:
            return draws
        if keys is not None:
            if keys.shape != x.shape[:1]:
                raise InputError(f"keys have shape {keys.shape}: one key per item, [{len(x)}], is needed")
            return self.draw(keys, x.shape[1:])
        if train:
            raise InputError(f"{type(self).__name__} found neither keys nor draws in training: pass one key per item")
        return None


def in_sequence(
    bottlenecks: Sequence[Bottleneck],
    x: jax.Array,
    *,
    keys: jax.Array | None = None,
    draws: Sequence[jax.Array | None] | None = None,
    train: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Maps x [b, n, channels] through bottlenecks, one after the other, to (latent, info).

    Args:
        keys: one per item [b], for those that draw.
        draws: the random numbers instead, one entry for each bottleneck.
        train: True in training.

    Returns:
        info: what they report, "loss" the sum of theirs; what two report is numbered, as in "codes_1".
    """
    if draws is not None and len(draws) != len(bottlenecks):
        raise InputError(f"{len(draws)} draws for {len(bottlenecks)} bottlenecks: one entry each is needed")
    loss, info = jnp.zeros((), x.dtype), {}
    for i, bottleneck in enumerate(bottlenecks):
        own = None if keys is None else stream(keys, i)
        x, report = bottleneck(x, keys=own, draws=None if draws is None else draws[i], train=train)
        loss += report.pop("loss", 0.0)
        info |= {f"{name}_{i}" if name in info else name: value for name, value in report.items()}
    return x, {"loss": loss, **info}


class TanhBottleneck(Bottleneck):
    """Latents in (-1, 1).

    ``info`` has "saturated", the share of them beyond 0.98 on either side, and with a ``guard`` "loss".

    Fields:
        guard: weight of a loss that keeps latents from saturating: the mean square of what inputs exceed 2 by, where
            tanh is 0.96. 0: none.
    """

    guard: float = 0.0

    def __call__(self, x, *, keys=None, draws=None, train=False):
        latent = jnp.tanh(x)
        info = {"saturated": jnp.mean(jnp.abs(latent) > 0.98, dtype=jnp.float32)}
        if self.guard:
            info["loss"] = self.guard * jnp.mean(jnp.square(nn.relu(jnp.abs(x) - 2)))
        return latent, info


class NoiserBottleneck(Bottleneck):
    """Adds Gaussian noise in training, so that neighbouring latents mean similar things.

    Fields: sigma, the noise's standard deviation.
    """

    sigma: float = 1.0

    def draw(self, keys, shape):
        return _normal(keys, shape)

    def __call__(self, x, *, keys=None, draws=None, train=False):
        return (x + self.sigma * self._draws(x, keys, draws, train) if train else x), {}


class VariationalBottleneck(Bottleneck):
    """A Gaussian per latent, mean in (-1, 1) and log-variance in (0, 2) as in audio-encoders-pytorch.

    With keys or draws the latent is a sample, without it is the mean. ``info`` has "kl", twice the divergence from a
    standard Gaussian (Kingma & Welling 2014, appendix B, without its half), averaged over all latents; "loss", that
    times ``loss_weight``; "mean" and "log_variance".
    """

    loss_weight: float = 1.0

    def draw(self, keys, shape):
        return _normal(keys, shape)

    @nn.compact
    def __call__(self, x, *, keys=None, draws=None, train=False):
        x = full(x)
        mean, log_variance = jnp.split(jnp.tanh(Conv(2 * x.shape[-1], name="to_mean_and_std", dtype=x.dtype)(x)), 2, -1)
        log_variance = log_variance + 1
        eps = self._draws(x, keys, draws, train)
        latent = mean if eps is None else mean + jnp.exp(log_variance / 2) * eps
        kl = jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1)
        return latent, {"loss": self.loss_weight * kl, "kl": kl, "mean": mean, "log_variance": log_variance}


class GaussianBottleneck(Bottleneck):
    """The bottleneck of a variational autoencoder: a Gaussian per latent, any mean and any deviation above 1e-4.

    With keys or draws the latent is a sample, without it is the mean. ``info`` has "kl", the divergence from a standard
    Gaussian in nats (Kingma & Welling 2014, appendix B), averaged over all latents; "loss", its weight times that;
    "mean" and "deviation".

    Fields:
        loss_weight: of the divergence in the loss.
        warmup_steps: training calls over which the weight rises from 0.
        free_bits: nats of divergence that each channel may have on average without loss (Kingma et al. 2016,
            appendix C.8).
    """

    loss_weight: float = 1e-4
    warmup_steps: int = 0
    free_bits: float = 0.0

    def draw(self, keys, shape):
        return _normal(keys, shape)

    @nn.compact
    def __call__(self, x, *, keys=None, draws=None, train=False):
        x = full(x)
        mean = Conv(x.shape[-1], name="to_mean", dtype=x.dtype)(x)
        deviation = nn.softplus(Conv(x.shape[-1], name="to_deviation", dtype=x.dtype)(x)) + 1e-4
        eps = self._draws(x, keys, draws, train)
        latent = mean if eps is None else mean + deviation * eps
        divergence = (jnp.square(mean) + jnp.square(deviation) - 2 * jnp.log(deviation) - 1) / 2
        charged = jnp.mean(jnp.maximum(divergence.mean((0, 1)), self.free_bits))
        info = {"loss": self._weight(train) * charged, "kl": divergence.mean(), "mean": mean, "deviation": deviation}
        return latent, info

    def _weight(self, train: bool) -> float | jax.Array:
        if not self.warmup_steps:
            return self.loss_weight
        steps = self.variable("state", "steps", lambda: jnp.zeros((), jnp.int32))
        weight = self.loss_weight * jnp.minimum(steps.value / self.warmup_steps, 1.0)
        if train and not self.is_initializing():
            steps.value += 1
        return weight


class BitcodesBottleneck(Bottleneck):
    """Each latent is ``num_bits`` bits: the sum of one of two learned vectors per bit (bitcodes-pytorch).

    In use the nearer vector of each pair is taken; in training one is drawn (Gumbel-softmax with a straight-through
    gradient, Jang et al. 2017). ``info`` has "bits" [b, n, num_bits], the nearer ones, int32.

    Fields:
        channels: of the latent.
        temperature: of the softmax that the gradient goes through.
    """

    channels: int
    num_bits: int
    temperature: float = 1.0

    def setup(self):
        self.codebook = self.param("codebook", nn.initializers.normal(1.0), (2 * self.num_bits, self.channels))

    def draw(self, keys, shape):
        return jax.vmap(lambda key: jax.random.gumbel(key, (shape[0], self.num_bits, 2)))(keys)

    def __call__(self, x, *, keys=None, draws=None, train=False):
        x = full(with_channels(x, self.channels))
        codebook = self.codebook.astype(x.dtype)
        pairs = jnp.matmul(x, codebook.T, precision=lax.Precision.HIGHEST).reshape(*x.shape[:2], self.num_bits, 2)
        bits = jnp.argmax(pairs, axis=-1).astype(jnp.int32)
        if not train:
            return self.from_bits(bits), {"bits": bits}
        noisy = (pairs + self._draws(x, keys, draws, train)) / self.temperature
        soft = nn.softmax(noisy)
        hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), 2, dtype=soft.dtype)
        return self._sum(hard - lax.stop_gradient(soft) + soft), {"bits": bits}

    def from_bits(self, bits: jax.Array) -> jax.Array:
        """The latent [b, n, channels] of bits [b, n, num_bits]: exactly the one that had them."""
        if bits.shape[-1] != self.num_bits:
            raise InputError(f"bits have shape {bits.shape}: the last axis must be {self.num_bits} (num_bits)")
        return self._sum(jax.nn.one_hot(bits, 2, dtype=self.codebook.dtype))

    def _sum(self, choice: jax.Array) -> jax.Array:
        """[b, n, num_bits, 2], one of each pair -> [b, n, channels]."""
        choice = choice.reshape(*choice.shape[:-2], -1)
        return jnp.matmul(choice, self.codebook.astype(choice.dtype), precision=lax.Precision.HIGHEST)


def to_bits(numbers: jax.Array, num_bits: int) -> jax.Array:
    """Whole numbers [...] as bits [..., num_bits], highest first; the inverse of :func:`to_decimal`."""
    return numbers[..., None] >> _places(num_bits) & 1


def to_decimal(bits: jax.Array) -> jax.Array:
    """Bits [..., num_bits], highest first, as whole numbers [...] int32; at most 31 bits."""
    return jnp.sum(bits.astype(jnp.int32) << _places(bits.shape[-1]), axis=-1, dtype=jnp.int32)


def _places(num_bits: int) -> jax.Array:
    if num_bits > 31:
        raise InputError(f"{num_bits} bits do not fit into a 32-bit number: use at most 31, or keep the bits")
    return jnp.arange(num_bits - 1, -1, -1, dtype=jnp.int32)


def _normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def with_channels(x: Any, channels: int) -> Any:
    if x.shape[-1] != channels:
        raise InputError(f"the bottleneck was given {x.shape[-1]} channels: its channels field says {channels}")
    return x
