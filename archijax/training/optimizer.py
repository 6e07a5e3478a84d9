"""The optimizer and the moving average of the parameters."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from archijax.compiler import written
from archijax.errors import require
from archijax.training.pmap import SMALL


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with global-norm clipping and a schedule."""

    learning_rate: float = 1e-4
    """Learning rate after the warm-up."""
    b1: float = 0.95
    """Decay of the gradient's running mean."""
    b2: float = 0.999
    """Decay of the squared gradient's running mean."""
    eps: float = 1e-6
    """Added to the root of the squared gradient's mean."""
    weight_decay: float = 1e-3
    """Decoupled weight decay."""
    clip_norm: float = 1.0
    """Gradients of a larger global norm are scaled down to it."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from zero."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant, or down to zero at the last step along half a cosine."""

    def __post_init__(self):
        require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "more than 0")
        require(self.clip_norm > 0, "optimizer.clip_norm", self.clip_norm, "more than 0")
        require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "0 or more")


@dataclass(frozen=True)
class EmaConfig:
    """Exponential moving average of the parameters, the weights that sampling uses."""

    decay: float = 0.995
    """Largest decay; it warms up as 1 - (1 + n)^-power, n = steps since averaging started."""
    power: float = 0.7
    """Speed of that warm-up."""
    start: int = 100
    """Steps before averaging starts; until then the average equals the parameters."""
    every: int = 10
    """Steps from one averaging to the next."""

    def __post_init__(self):
        require(0 <= self.decay < 1, "ema.decay", self.decay, "at least 0 and below 1")
        require(self.start >= 0, "ema.start", self.start, "0 or more")
        require(self.every >= 1, "ema.every", self.every, "1 or more")


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of `steps` steps."""
    rate, warmup = config.learning_rate, config.warmup_steps
    if config.learning_rate_schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(steps - warmup, 1))
    else:
        after = optax.constant_schedule(rate)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


class Skipping(optax.GradientTransformationExtraArgs):
    """An optax transformation that keeps its state where an update is skipped.

    Its `update` takes `finite`, bool [], whether the loss and the gradients are finite, and `grad_norm`, float32 [].
    """


def skipping(optimizer: optax.GradientTransformation) -> Skipping:
    """Any optax transformation as one that keeps its state where an update is skipped."""
    if isinstance(optimizer, Skipping):
        return optimizer
    optimizer = optax.with_extra_args_support(optimizer)

    def update(grads: Any, state: Any, params: Any = None, *, finite: jax.Array, **extra: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes types
            updates, new_state = optimizer.update(grads, state, params, **extra)
        return updates, jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state, state)

    return Skipping(optimizer.init, update)


class AdamWState(NamedTuple):
    """What :func:`adamw` remembers: updates made, means of the gradients and of their squares, the last rate."""

    count: jax.Array
    mu: Any
    nu: Any
    learning_rate: jax.Array


def adamw(config: OptimizerConfig, steps: int = 1) -> Skipping:
    """AdamW (Loshchilov and Hutter, 2019) of clipped gradients, by a learning rate schedule.

    It computes what `optax.chain(optax.clip_by_global_norm(...), optax.adamw(...))` does. XLA's CPU compiler writes
    down what that chain has between its parts: a step of a U-Net of 20M parameters took 154 MiB beside state and batch
    instead of 82, and 1.07 times as long; one of dense layers, whose optimizer is most of it, 1.45 times.

    Args:
        steps: of the run, at whose end the cosine schedule is zero.
    """
    schedule, b1, b2 = learning_rate_schedule(config, steps), config.b1, config.b2

    @jax.jit  # so that it is traced once per shape and not once per parameter
    def moments(grad: jax.Array, mu: jax.Array, nu: jax.Array, clip: jax.Array, finite: jax.Array) -> tuple:
        grad = grad * clip.astype(grad.dtype)
        moved = b1 * mu + (1 - b1) * grad, b2 * nu + (1 - b2) * jnp.square(grad)
        # Parameters follow from what is kept, so that nothing must remember what was.
        return written(tuple(jnp.where(finite, new, old) for new, old in zip(moved, (mu, nu), strict=True)))

    @jax.jit
    def one(mu: jax.Array, nu: jax.Array, param: jax.Array, *scalars: jax.Array) -> jax.Array:
        rate, first, second = (scalar.astype(mu.dtype) for scalar in scalars)
        return -rate * (first * mu / (jnp.sqrt(second * nu) + config.eps) + config.weight_decay * param)

    def init(params: Any) -> AdamWState:
        zeros = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return AdamWState(jnp.zeros((), jnp.int32), *zeros, jnp.zeros(()))

    def update(
        grads: Any, state: AdamWState, params: Any, *, finite: jax.Array, grad_norm: jax.Array
    ) -> tuple[Any, AdamWState]:
        clip = config.clip_norm / jnp.maximum(grad_norm, config.clip_norm)
        count = state.count + finite.astype(jnp.int32)
        with jax.numpy_dtype_promotion("standard"):
            rate = jnp.asarray(schedule(state.count), jnp.float32)
        pairs = jax.tree.map(lambda *leaves: moments(*leaves, clip, finite), grads, state.mu, state.nu)
        mu, nu = (jax.tree.map(lambda _, pair, i=i: pair[i], grads, pairs) for i in range(2))
        scalars = rate, *(1 / (1 - decay ** count.astype(jnp.float32)) for decay in (b1, b2))
        updates = jax.tree.map(lambda *leaves: one(*leaves, *scalars), mu, nu, params)
        return updates, AdamWState(count, mu, nu, jnp.where(finite, rate, state.learning_rate))

    return Skipping(init, update)


def global_norm(grads: Any) -> jax.Array:
    """The global norm of gradients, float32 []."""

    def squared(leaf: jax.Array) -> jax.Array:
        # As a product: squares would be written down before they are summed. Over all axes as they are, since a leaf
        # that is split over devices cannot be made flat without being gathered.
        axes = tuple(range(leaf.ndim))
        product = jax.lax.dot_general(leaf, leaf, ((axes, axes), ((), ())), precision=jax.lax.Precision.HIGHEST)
        return product.astype(jnp.float32)

    # Vectors are many and as a rule short, so that no mesh splits them: a product for some dozens of them, not one or
    # two kernels for each.
    vectors, rest = [], []
    for leaf in jax.tree.leaves(grads):
        if leaf.ndim < 2 and leaf.size < SMALL:
            vectors.append(leaf.ravel().astype(jnp.float32))
        else:
            rest.append(leaf)
    joined = [jnp.concatenate(vectors[i : i + 32]) for i in range(0, len(vectors), 32)]
    return jnp.sqrt(sum(map(squared, [*rest, *joined])))


def ema_update(config: EmaConfig, ema: Any, params: Any, steps: jax.Array, finite: jax.Array) -> Any:
    """The moving average after `steps` steps, the last of which led to `params`; what it was if not `finite`.

    decay_n = min(decay, 1 - (1 + n)^-power), where n counts the steps since `start`, as the original does. Until then
    the average is a copy of the parameters; afterwards it moves every `every` steps.
    """
    since = steps - config.start
    n = jnp.maximum(since - 1, 0).astype(jnp.float32)
    decay = jnp.minimum(config.decay, 1 - (1 + n) ** -config.power)
    decay = jnp.where(since <= 0, 0.0, jnp.where((since % config.every == 0) & finite, decay, 1.0))

    @jax.jit
    def moved(old: jax.Array, new: jax.Array, decay: jax.Array) -> jax.Array:
        # Without the choice, old + 1 * (new - old) would round: until `start` it is a copy to the bit.
        return jnp.where(decay == 0, new, old + (1 - decay).astype(old.dtype) * (new - old))

    return jax.tree.map(lambda old, new: moved(old, new, decay), ema, params)
