"""Counts the skipped updates of a run, and finds the first value that is not finite."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from archijax.training.losses import losses, merge, select


class Diverged(RuntimeError):
    """The loss or its gradient was not finite for too many steps in a row."""


class Health:
    """Counts how many updates in a row were skipped. A run ends at ``limit`` skipped updates in a row.

    Attributes:
        critical: whether one more skipped update would end the run.
    """

    def __init__(self, limit: int, skipped: int):
        self.limit, self.skipped, self.row = limit, skipped, 0

    @property
    def critical(self) -> bool:
        return self.row + 1 >= self.limit

    def ill(self, skipped: int) -> bool:
        """Returns whether ``limit`` updates in a row were skipped. ``skipped`` is the number of skipped updates in the
        whole run."""
        self.row = self.row + 1 if skipped > self.skipped else 0
        self.skipped = skipped
        return self.row >= self.limit

    def diverged(self, step: int, cause: str) -> Diverged:
        """Returns the error that ends the run at `step`. ``cause`` is the result of `first_bad`."""
        return Diverged(
            f"The loss or its gradient was not finite for {self.row} steps in a row, up to step {step}; first in that "
            f"step: {cause}. Lower optimizer.learning_rate or look for broken audio. These updates were skipped, so "
            "every checkpoint has good weights."
        )


def first_bad(model: Any, variables: dict, keys: jax.Array, batch: dict) -> str:
    """Returns words that describe the first value of a step that is not finite. The loss is computed again item by
    item, on a CPU if possible.

    Args:
        variables: the collections of the model, on the host.
        keys: the keys of the items [b].
        batch: the batch, on the host.
    """
    for name, leaf in flatten_dict(variables, sep="/").items():
        if _is_bad(leaf):
            return f"the variable {name}"
    for name, leaf in batch.items():
        for item, value in enumerate(leaf):
            if _is_bad(value):
                return f"the {name} of item {item} of the batch"
    with jax.default_device(_cpu()):
        for loss, names in losses(model):
            examine = _Examination(loss, names)
            for item in range(len(keys)):
                cause = examine(
                    variables, keys[item : item + 1], {k: leaf[item : item + 1] for k, leaf in batch.items()}
                )
                if cause:
                    return f"{cause}, for item {item} of the batch"
    return "no value, if each item is computed again by itself"


class _Examination:
    """Finds the first non-finite value in a loss and its gradient."""

    def __init__(self, loss: Any, names: Any):
        self.names, self.paths, self.bad = names, [], set()

        def watch(next_function, args, kwargs, context):
            result = next_function(*args, **kwargs)
            if context.method_name == "__call__":
                # Modules are numbered as they end: an inner module comes before the outer one.
                order = len(self.paths)
                self.paths.append("/".join(context.module.path))
                jax.debug.callback(self._note, order, _finite(result))
            return result

        def objective(trained, variables, keys, batch):
            params = merge(variables["params"], trained)
            with nn.intercept_methods(watch):
                return loss({**variables, "params": params}, keys, batch)[0]

        self.function = jax.jit(jax.value_and_grad(objective))

    def __call__(self, variables: dict, keys: jax.Array, batch: dict) -> str | None:
        self.bad.clear()
        value, grads = self.function(select(variables["params"], self.names), variables, keys, batch)
        jax.effects_barrier()
        bad = [name for name, leaf in flatten_dict(grads, sep="/").items() if _is_bad(leaf)]
        if np.isfinite(value) and not bad:
            return None
        if self.bad:
            return f"the output of {self.paths[min(self.bad)] or 'the net'}"
        if not np.isfinite(value):
            return "the loss itself, although every layer's output is finite"
        # Gradients flow backwards, so the first bad gradient belongs to the last bad layer.
        return f"the gradient of {max(bad, key=self._order)}"

    def _note(self, order, finite) -> None:
        if not finite:
            self.bad.add(int(order))

    def _order(self, name: str) -> int:
        module = "/" + name.rpartition("/")[0]
        return max((k for k, path in enumerate(self.paths) if path and module.endswith(f"/{path}")), default=-1)


def _finite(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _is_bad(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)) and not bool(jnp.all(jnp.isfinite(leaf)))


def _cpu() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
