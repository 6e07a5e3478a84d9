"""What a training run carries from step to step: arrays only."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """The arrays of a run after `step` steps; saved whole in every checkpoint.

    Attributes:
        step: int32 [], steps taken, skipped ones included.
        skipped: int32 [], steps whose update was skipped because the loss or the gradient was not finite.
        params: trained parameters, float32.
        ema: their moving average.
        opt_state: the optimizer's state.
        frozen: variables that never change and have no gradient.
        state: variables that the step itself replaces, such as codebooks.
    """

    step: jax.Array
    skipped: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    frozen: Any
    state: Any

    @classmethod
    def create(cls, variables: dict, optimizer: optax.GradientTransformation) -> "TrainState":
        """The state before the first step, from the collections that `model.init` returned."""
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: the step donates its input, and one buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, params),
            opt_state=optimizer.init(params),
            frozen=variables.get("frozen", {}),
            state=variables.get("state", {}),
        )

    def variables(self, params: Any) -> dict:
        """The model's collections with `params` (the parameters, or their average)."""
        return {"params": params, "frozen": self.frozen, "state": self.state}
