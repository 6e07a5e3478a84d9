"""Contains the state of a training run, which consists of arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int32

from archijax.contract import Model, Variables
from archijax.errors import InputError
from archijax.training.losses import has, losses, select


@struct.dataclass
class TrainState:
    """Holds the arrays of a run after `step` steps. A checkpoint has all of these arrays.

    ``TrainState.create(model, model.init(key, batch), optimizer)`` makes the first state, and the step of
    :func:`make_train_step` makes the next state.

    Attributes:
        step: the number of steps, including skipped steps.
        skipped: the number of skipped steps. A step is skipped if its loss or gradient is not finite.
        params: the parameters of the model, float32.
        ema: the moving average of the parameters.
        opt_state: a tuple of states of the optimizer, one for each loss of the model.
        frozen: variables that do not change and have no gradient.
        state: variables that the step replaces, such as codebooks.
    """

    step: Int32[Array, ""]
    skipped: Int32[Array, ""]
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
        """Returns the state before the first step.

        Args:
            model: the model whose losses the step minimises.
            variables: the collections that `model.init` returned.
            optimizer: the same optimizer as for :func:`make_train_step`.
            trainable: paths of the parameters to train, such as "net" or "net/decoder", or () for all parameters, as in
                :func:`make_train_step`.

        Raises:
            InputError: no loss or several losses train a parameter, or a path in trainable does not exist or is inside
                another path.
        """
        params = variables["params"]
        named = [name for _, names in losses(model) for name in (params if names is None else names)]
        if sorted(named) != sorted(params):
            raise InputError(f"the losses train {', '.join(named)}: they must train each of {', '.join(params)} once")
        for path in trainable:
            if not has(params, path):
                inside = params.get(path.split("/")[0], params)
                raise InputError(f"trainable has {path!r}, which does not exist: the model has {', '.join(inside)}")
            if any(path.startswith(f"{other}/") or path == other for other in set(trainable) - {path}):
                raise InputError(f"trainable has {path!r} and a path that includes it: leave one out")
        return cls(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            # This is a copy, because the step donates its input, and one buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, params),
            opt_state=tuple(optimizer.init(select(params, names)) for _, names in losses(model, trainable)),
            frozen=variables.get("frozen", {}),
            state=variables.get("state", {}),
        )

    def variables(self, params: Any) -> Variables:
        """Returns the variables for the model's methods, a dict with "params", "frozen" and "state".

        Pass ``state.params``, or their moving average ``state.ema``.
        """
        return {"params": params, "frozen": self.frozen, "state": self.state}
