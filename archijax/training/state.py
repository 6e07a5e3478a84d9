"""What a training run carries from step to step: arrays only."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from archijax.errors import InputError


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
        variables: dict,
        optimizer: optax.GradientTransformation,
        groups: Sequence[Sequence[str] | None] = (None,),
        trainable: Sequence[str] = (),
    ) -> "TrainState":
        """The state before the first step.

        Args:
            variables: the collections that `model.init` returned.
            optimizer: that of the step.
            groups: the names, at the first level, of the parameters that each loss trains; None is all.
            trainable: names of those that the step changes; empty for all.

        Raises:
            InputError: parameters that no loss trains, or more than one; names of none.
        """
        params = variables["params"]
        named = [name for names in groups for name in (params if names is None else names)]
        if sorted(named) != sorted(params):
            raise InputError(f"the losses train {', '.join(named)}: each of {', '.join(params)} once is needed")
        if unknown := set(trainable) - set(params):
            raise InputError(f"trainable names {sorted(unknown)[0]!r}: the model has {', '.join(params)}")
        groups = [kept for names in groups if (kept := restricted(names, trainable)) != ()]
        return cls(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: the step donates its input, and one buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, params),
            opt_state=tuple(optimizer.init(part(params, names)) for names in groups),
            frozen=variables.get("frozen", {}),
            state=variables.get("state", {}),
        )

    def variables(self, params: Any) -> dict:
        """The model's collections with `params` (the parameters, or their average)."""
        return {"params": params, "frozen": self.frozen, "state": self.state}


def restricted(names: Sequence[str] | None, trainable: Sequence[str]) -> Sequence[str] | None:
    """Those of a loss's names of parameters that are trained, where an empty `trainable` and None are all."""
    if not trainable:
        return names
    return tuple(trainable if names is None else (name for name in names if name in trainable))


def part(params: Any, names: Sequence[str] | None) -> Any:
    """Those of the parameters that have one of the names at the first level; None is all."""
    return params if names is None else {name: params[name] for name in names}
