"""The optimizer and the moving average of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from train.config import EmaConfig, OptimizerConfig


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, for a run of `steps` steps."""
    rate, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(steps - warmup, 1))
    else:
        after = optax.constant_schedule(rate)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def direction(config: OptimizerConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter, 2019) up to the learning rate: the step subtracts rate * direction.

    The rate stays outside so that it follows the step's own count, also across skipped updates.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay),
    )


def average(config: EmaConfig, ema: Any, params: Any, steps: jax.Array) -> Any:
    """The moving average after `steps` steps, the last of which led to `params`.

    decay_n = min(decay, 1 - (1 + n)^-power), where n counts the averages taken so far. Until `start` the average is
    a copy of the parameters; after it, it moves every `every` steps.
    """
    since = steps - config.start
    n = jnp.maximum(since // config.every - 1, 0).astype(jnp.float32)
    decay = jnp.minimum(config.decay, 1 - (1 + n) ** -config.power)
    decay = jnp.where(since <= 0, 0.0, jnp.where(since % config.every == 0, decay, 1.0))
    # Without the choice, old + 1 * (new - old) would round: until `start` it is a copy to the bit.
    return jax.tree.map(
        lambda old, new: jnp.where(decay == 0, new, old + (1 - decay).astype(old.dtype) * (new - old)), ema, params
    )
