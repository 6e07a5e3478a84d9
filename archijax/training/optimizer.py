"""The optimizer and the moving average of the parameters."""

from dataclasses import dataclass
from typing import Any, Literal

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
    """Largest decay; it warms up as 1 - (1 + n)^-power, n = averages taken so far."""
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


def adamw(config: OptimizerConfig) -> optax.GradientTransformationExtraArgs:
    """AdamW (Loshchilov and Hutter, 2019) up to the learning rate: the step subtracts rate * direction.

    The rate stays outside so that it follows the step's own count, also across skipped updates. `update` takes
    `finite` and `norm`, the gradient's, too: where it is not finite the state stays what it was.

    optax's own would do, but XLA then writes down clipped gradients, copies of moments and directions that are only on
    their way: a third of a large net's compile time.
    """
    b1, b2 = config.b1, config.b2

    @jax.jit
    def moments(grad: jax.Array, mu: jax.Array, nu: jax.Array, factor: jax.Array, finite: jax.Array) -> tuple:
        grad = grad * factor.astype(grad.dtype)
        moved = b1 * mu + (1 - b1) * grad, b2 * nu + (1 - b2) * jnp.square(grad)
        # Parameters follow from what is kept, so that nothing must remember what was.
        return written(tuple(jnp.where(finite, new, old) for new, old in zip(moved, (mu, nu), strict=True)))

    @jax.jit
    def directed(mu: jax.Array, nu: jax.Array, param: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        first, second = first.astype(mu.dtype), second.astype(nu.dtype)
        return first * mu / (jnp.sqrt(second * nu) + config.eps) + config.weight_decay * param

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any, *, finite: jax.Array, norm: jax.Array) -> Any:
        factor = config.clip_norm / jnp.maximum(norm, config.clip_norm)
        count = state.count + finite.astype(jnp.int32)
        pairs = jax.tree.map(lambda *leaves: moments(*leaves, factor, finite), grads, state.mu, state.nu)
        mu, nu = (jax.tree.map(lambda _, pair, i=i: pair[i], grads, pairs) for i in range(2))
        first, second = (1 / (1 - decay ** count.astype(jnp.float32)) for decay in (b1, b2))
        updates = jax.tree.map(lambda *leaves: directed(*leaves, first, second), mu, nu, params)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def norm(grads: Any) -> jax.Array:
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

    decay_n = min(decay, 1 - (1 + n)^-power), where n counts the averages taken so far. Until `start` the average is
    a copy of the parameters; after it, it moves every `every` steps.
    """
    since = steps - config.start
    n = jnp.maximum(since // config.every - 1, 0).astype(jnp.float32)
    decay = jnp.minimum(config.decay, 1 - (1 + n) ** -config.power)
    decay = jnp.where(since <= 0, 0.0, jnp.where((since % config.every == 0) & finite, decay, 1.0))

    @jax.jit
    def moved(old: jax.Array, new: jax.Array, decay: jax.Array) -> jax.Array:
        # Without the choice, old + 1 * (new - old) would round: until `start` it is a copy to the bit.
        return jnp.where(decay == 0, new, old + (1 - decay).astype(old.dtype) * (new - old))

    return jax.tree.map(lambda old, new: moved(old, new, decay), ema, params)
