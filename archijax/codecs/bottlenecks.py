"""Defines bottlenecks: modules between an encoder and a decoder that make a latent bounded, noisy or discrete.

All bottlenecks are called as ``bottleneck(x, *, keys=None, draws=None, train=False) -> (latent, info)``. ``info`` is a
dict of arrays. If the bottleneck has a loss that training should minimise, ``info`` has an entry "loss". Random numbers
are drawn from ``keys``, or passed as ``draws``, which is a result of :meth:`Bottleneck.draw`. Encoders take one
bottleneck or a sequence of bottlenecks.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Int32, Key

from archijax.errors import InputError
from archijax.keys import stream
from archijax.nn.arrays import full
from archijax.nn.linear import Conv

Keys = Key[Array, " b"] | None
Draws = Array | tuple[Array, ...] | None
Info = dict[str, Array]


class Bottleneck(nn.Module):
    """The base class of bottlenecks. ``latent, info = Bottleneck()(x)`` returns x unchanged and an empty dict."""

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Draws:
        """Draws the random numbers for one call with x [b, n, channels], where ``shape`` is (n, channels).

        ``keys`` has one JAX key per item. The result is None if the bottleneck is not random.
        """
        return None

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n d"], Info]:
        """Maps the output x of an encoder to (latent, info).

        Args:
            keys: one JAX key per item, for random bottlenecks.
            draws: the result of ``draw(keys, x.shape[1:])``, as an alternative to ``keys``.
            train: whether the call is for training.

        Raises:
            InputError: a random bottleneck gets neither ``keys`` nor ``draws`` in training.
        """
        return x, {}

    def _draws(self, x: Float[Array, "b n c"], keys: Keys, draws: Draws, train: bool) -> Draws:
        if draws is not None:
            return draws
        if keys is not None:
            if keys.shape != x.shape[:1]:
                raise InputError(f"keys have shape {keys.shape}: one key per item, [{len(x)}], is needed")
            return self.draw(keys, x.shape[1:])
        if train:
            raise InputError(f"{type(self).__name__} has neither keys nor draws in training: pass one key per item")
        return None


def in_sequence(
    bottlenecks: Sequence[Bottleneck],
    x: Float[Array, "b n c"],
    *,
    keys: Keys = None,
    draws: Sequence[Draws] | None = None,
    train: bool = False,
) -> tuple[Float[Array, "b n d"], Info]:
    """Applies bottlenecks one after the other, and returns (latent, info).

    ``in_sequence((TanhBottleneck(), NoiserBottleneck()), x)`` can be called outside of a module. Bottlenecks with
    variables must be submodules of a Flax module.

    Args:
        bottlenecks: the bottlenecks, in the order in which they are applied.
        x: the output of an encoder.
        keys: one JAX key per item, for random bottlenecks.
        draws: for each bottleneck the result of its method `draw`, as an alternative to ``keys``.
        train: whether the call is for training.

    Returns:
        (latent, info), where info is a dict of the entries of all bottlenecks. The scalar "loss" is the sum of their
        losses. If two bottlenecks have an entry of the same name, the index of the later bottleneck is appended to the
        later name, as in "codes_1".

    Raises:
        InputError: the number of draws is wrong, or a random bottleneck gets neither ``keys`` nor ``draws`` in
            training.
    """
    if draws is not None and len(draws) != len(bottlenecks):
        raise InputError(f"there are {len(draws)} draws for {len(bottlenecks)} bottlenecks: one for each is needed")
    loss, info = jnp.zeros((), x.dtype), {}
    for i, bottleneck in enumerate(bottlenecks):
        own_keys = None if keys is None else stream(keys, i)
        x, own_info = bottleneck(x, keys=own_keys, draws=None if draws is None else draws[i], train=train)
        loss += own_info.pop("loss", 0.0)
        info |= {f"{name}_{i}" if name in info else name: value for name, value in own_info.items()}
    return x, {"loss": loss, **info}


class TanhBottleneck(Bottleneck):
    """Maps latents to (-1, 1) by tanh, as in ``latent, info = TanhBottleneck()(x)``.

    The field ``bottleneck`` of encoders and autoencoders, such as :class:`AutoEncoder1d`, takes bottlenecks. ``info``
    has the scalar "saturated", the share of values whose magnitude is above 0.98. If there is a ``guard``, ``info``
    also has the scalar "loss".

    Fields:
        guard: the weight of a loss that prevents saturation; 0: no loss. The loss is the mean of ``max(0, |x| - 2)^2``
            over the inputs x.
    """

    guard: float = 0.0

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        latent = jnp.tanh(x)
        info = {"saturated": jnp.mean(jnp.abs(latent) > 0.98, dtype=jnp.float32)}
        if self.guard:
            info["loss"] = self.guard * jnp.mean(jnp.square(nn.relu(jnp.abs(x) - 2)))
        return latent, info


class NoiserBottleneck(Bottleneck):
    """Adds Gaussian noise in training. The decoder then learns to decode similar latents to similar sounds.

    Call ``latent, _ = NoiserBottleneck()(x, keys=jax.random.split(key, len(x)), train=True)``. If ``train`` is False,
    the latent is x.

    Fields:
        sigma: the standard deviation of the noise.
    """

    sigma: float = 1.0

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Float[Array, "b n c"]:
        return _normal(keys, shape)

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        return (x + self.sigma * self._draws(x, keys, draws, train) if train else x), {}


class VariationalBottleneck(Bottleneck):
    """Predicts a Gaussian for each value of the latent, as in audio-encoders-pytorch.

    With ``bottleneck = VariationalBottleneck()``, call ``latent, info = bottleneck.apply(bottleneck.init(key, x), x,
    keys=jax.random.split(key, len(x)))``. The latent has the shape of x. If ``keys`` or ``draws`` are given, the latent
    is a sample. Otherwise, the latent is the mean.

    The mean is between -1 and 1, and the log-variance is between 0 and 2. ``info`` has "mean" and "log_variance" with
    the shape of x, and the scalars "kl" and "loss". "kl" is twice the KL divergence from a standard Gaussian (Kingma &
    Welling 2014, appendix B), averaged over all values. "loss" is "kl" times ``loss_weight``.

    Fields:
        loss_weight: the weight of "kl" in "loss".
    """

    loss_weight: float = 1.0

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Float[Array, "b n c"]:
        return _normal(keys, shape)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        x = full(x)
        mean, log_variance = jnp.split(jnp.tanh(Conv(2 * x.shape[-1], name="to_mean_and_std", dtype=x.dtype)(x)), 2, -1)
        log_variance = log_variance + 1
        eps = self._draws(x, keys, draws, train)
        latent = mean if eps is None else mean + jnp.exp(log_variance / 2) * eps
        kl = jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1)
        return latent, {"loss": self.loss_weight * kl, "kl": kl, "mean": mean, "log_variance": log_variance}


class GaussianBottleneck(Bottleneck):
    """Predicts a Gaussian for each value of the latent, as in a variational autoencoder.

    With ``bottleneck = GaussianBottleneck()``, call ``latent, info = bottleneck.apply(bottleneck.init(key, x), x,
    keys=jax.random.split(key, len(x)))``. The latent has the shape of x. If ``keys`` or ``draws`` are given, the latent
    is a sample. Otherwise, the latent is the mean.

    The mean is unbounded, and the standard deviation is above 1e-4. ``info`` has "mean" and "deviation" with the shape
    of x, and the scalars "kl" and "loss". "kl" is the KL divergence from a standard Gaussian in nats (Kingma & Welling
    2014, appendix B), averaged over all values. "loss" is ``loss_weight * kl``, except that a channel with a divergence
    below ``free_bits`` counts as ``free_bits``.

    Fields:
        loss_weight: the weight of the divergence in "loss".
        warmup_steps: the number of training calls in which the weight rises linearly from 0 to ``loss_weight``. If
            warmup_steps is above 0, training calls need ``mutable=["state"]``.
        free_bits: the smallest divergence of a channel in the loss, in nats. A channel with a lower divergence
            (averaged over batch and frames) counts as ``free_bits``, and has no gradient (Kingma et al. 2016, appendix
            C.8).
    """

    loss_weight: float = 1e-4
    warmup_steps: int = 0
    free_bits: float = 0.0

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Float[Array, "b n c"]:
        return _normal(keys, shape)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
        x = full(x)
        mean = Conv(x.shape[-1], name="to_mean", dtype=x.dtype)(x)
        deviation = nn.softplus(Conv(x.shape[-1], name="to_deviation", dtype=x.dtype)(x)) + 1e-4
        eps = self._draws(x, keys, draws, train)
        latent = mean if eps is None else mean + deviation * eps
        divergence = (jnp.square(mean) + jnp.square(deviation) - 2 * jnp.log(deviation) - 1) / 2
        cost = jnp.mean(jnp.maximum(divergence.mean((0, 1)), self.free_bits))
        info = {"loss": self._weight(train) * cost, "kl": divergence.mean(), "mean": mean, "deviation": deviation}
        return latent, info

    def _weight(self, train: bool) -> float | Float[Array, ""]:
        if not self.warmup_steps:
            return self.loss_weight
        steps = self.variable("state", "steps", lambda: jnp.zeros((), jnp.int32))
        weight = self.loss_weight * jnp.minimum(steps.value / self.warmup_steps, 1.0)
        if train and not self.is_initializing():
            steps.value += 1
        return weight


class BitcodesBottleneck(Bottleneck):
    """Turns each latent vector into ``num_bits`` bits, and the bits into a sum of learned vectors (bitcodes-pytorch).

        bottleneck = BitcodesBottleneck(channels=32, num_bits=8)
        variables = bottleneck.init(key, x)  # x is [b, n, 32]
        latent, info = bottleneck.apply(variables, x)  # the latent has the shape of x
        latent = bottleneck.apply(variables, info["bits"], method="from_bits")

    Each bit selects one of two learned vectors. Outside of training, the bit selects the vector with the larger dot
    product with the latent vector. In training, the choice is random (Gumbel-softmax with a straight-through gradient,
    Jang et al. 2017). ``info`` has "bits" int32 [b, n, num_bits]. These bits never depend on random numbers.

    Fields:
        channels: the number of channels of the input and of the latent.
        num_bits: the number of bits per latent vector.
        temperature: the temperature of the softmax, which has an effect only on the gradient.
    """

    channels: int
    num_bits: int
    temperature: float = 1.0

    def setup(self):
        self.codebook = self.param("codebook", nn.initializers.normal(1.0), (2 * self.num_bits, self.channels))

    def draw(self, keys: Key[Array, " b"], shape: tuple[int, int]) -> Float[Array, "b n {self.num_bits} 2"]:
        return jax.vmap(lambda key: jax.random.gumbel(key, (shape[0], self.num_bits, 2)))(keys)

    def __call__(
        self, x: Float[Array, "b n c"], *, keys: Keys = None, draws: Draws = None, train: bool = False
    ) -> tuple[Float[Array, "b n c"], Info]:
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

    def from_bits(self, bits: Int[Array, "b n num_bits"]) -> Float[Array, "b n {self.channels}"]:
        """Decodes bits to the latent that encoding returns outside of training.

        Raises:
            InputError: the number of bits is wrong.
        """
        if bits.shape[-1] != self.num_bits:
            raise InputError(f"bits have shape {bits.shape}: the last axis must be {self.num_bits} (num_bits)")
        return self._sum(jax.nn.one_hot(bits, 2, dtype=self.codebook.dtype))

    def _sum(self, choice: Float[Array, "b n {self.num_bits} 2"]) -> Float[Array, "b n {self.channels}"]:
        """Returns the sum of the selected vectors. Each choice is one-hot over a pair of vectors."""
        choice = choice.reshape(*choice.shape[:-2], -1)
        return jnp.matmul(choice, self.codebook.astype(choice.dtype), precision=lax.Precision.HIGHEST)


def to_bits(numbers: Int[Array, "*shape"], num_bits: int) -> Int[Array, "*shape {num_bits}"]:
    """Turns integers into bits (0 or 1), with the highest bit first. :func:`to_decimal` is the inverse.

    Raises:
        InputError: num_bits is above 31.
    """
    return numbers[..., None] >> _shifts(num_bits) & 1


def to_decimal(bits: Int[Array, "*shape num_bits"]) -> Int32[Array, "*shape"]:
    """Turns bits [..., num_bits], with the highest bit first, into integers. :func:`to_bits` is the inverse.

    Raises:
        InputError: num_bits is above 31.
    """
    return jnp.sum(bits.astype(jnp.int32) << _shifts(bits.shape[-1]), axis=-1, dtype=jnp.int32)


def _shifts(num_bits: int) -> Int32[Array, " {num_bits}"]:
    if num_bits > 31:
        raise InputError(f"{num_bits} bits do not fit into a 32-bit number: use at most 31, or keep the bits")
    return jnp.arange(num_bits - 1, -1, -1, dtype=jnp.int32)


def _normal(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, " b *shape"]:
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def with_channels(x: Float[Array, "b n c"], channels: int) -> Float[Array, "b n {channels}"]:
    """Returns x. Raises InputError if x does not have ``channels`` channels."""
    if x.shape[-1] != channels:
        raise InputError(
            f"the input of the bottleneck has {x.shape[-1]} channels, but its channels field is {channels}"
        )
    return x
