"""What a training run carries from step to step: arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from archijax.contract import Model, Variables
from archijax.errors import InputError
from archijax.training.losses import has, losses, select


@struct.dataclass
class TrainState:
    """The arrays of a run after `step` steps; saved whole in every checkpoint.

    Attributes:
        step: int32 [], steps taken, skipped ones included.
        skipped: int32 [], steps whose update was skipped because the loss or the gradient was not finite.
        params: trained parameters, float32.
        ema: their moving average.
        opt_state: the optimizer's states, one for each of the model's losses.
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
    def create(
        cls,
        model: Model,
        variables: Variables,
        optimizer: optax.GradientTransformation,
        trainable: Sequence[str] = (),
    ) -> TrainState:
        """The state before the first step.

        Args:
            model: whose losses the step minimises.
            variables: the collections that `model.init` returned.
            optimizer: that of the step.
            trainable: paths of the parameters that the step changes, such as "net" or "net/decoder"; empty for all.

        Raises:
            InputError: parameters that no loss trains, or more than one; names of none.
        """
        params = variables["params"]
        named = [name for _, names in losses(model) for name in (params if names is None else names)]
        if sorted(named) != sorted(params):
            raise InputError(f"the losses train {', '.join(named)}: each of {', '.join(params)} once is needed")
        for path in trainable:
            if not has(params, path):
                inside = params.get(path.split("/")[0], params)
                raise InputError(f"trainable names {path!r}: the model has {', '.join(inside)} there")
            if any(path.startswith(f"{other}/") or path == other for other in set(trainable) - {path}):
                raise InputError(f"trainable names {path!r} and a part that it is in: leave one out")
        return cls(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: the step donates its input, and one buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, params),
            opt_state=tuple(optimizer.init(select(params, names)) for _, names in losses(model, trainable)),
            frozen=variables.get("frozen", {}),
            state=variables.get("state", {}),
        )

    def variables(self, params: Any) -> Variables:
        """The model's collections with `params` (the parameters, or their average)."""
        return {"params": params, "frozen": self.frozen, "state": self.state}
