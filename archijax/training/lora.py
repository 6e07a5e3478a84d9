"""Contains low-rank adapters of a model's weights (Hu et al. 2021). Adapters change only the parameters of a model, not
the code of its nets.

A kernel W [..., n] is reshaped to a matrix [m, n], and becomes ``W + (alpha / rank) A B`` with A [m, rank] and B [rank,
n]. B is zero before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Key

from archijax.contract import Batch, LossResult, Model, MultiLossModel, Variables
from archijax.errors import InputError, listed
from archijax.training.losses import over_axis

TARGETS = ("*/kernel",)
"""The default names of adapted parameters: all kernels of linear maps and convolutions."""


@dataclass(frozen=True, eq=False)
class Lora:
    """A model with adapters. Training changes only the adapters.

    ``Lora(model, rank=4).around(key, variables)`` turns variables of ``model`` into variables with adapters. In the
    result, "params" is {"lora": adapters}, and "frozen" has the parameters of ``model`` under the name "base".

    Fields:
        model: a model with one loss.
        rank: the rank of the adapters, at least 1.
        alpha: the number alpha in the factor ``alpha / rank`` of the adapters, or None for alpha = rank.
        targets: patterns of the names of adapted parameters, such as "net/*to_q/kernel", where * matches any text.

    Raises:
        InputError: the rank is below 1, or the model has several losses.
    """

    model: Model
    rank: int
    alpha: float | None = None
    targets: Sequence[str] = TARGETS

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"the rank of the adapters is {self.rank}: it must be at least 1")
        if isinstance(self.model, MultiLossModel):
            raise InputError(
                "adapters need a model with one loss, but this model has several: train it without adapters"
            )

    @property
    def scale(self) -> float:
        """The factor by which A B is multiplied: alpha / rank."""
        return (self.rank if self.alpha is None else self.alpha) / self.rank

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables of ``model`` with new adapters. The arguments are those of ``model.init``."""
        return self.around(key, self.model.init(key, batch, frozen) if frozen else self.model.init(key, batch))

    def around(self, key: Key[Array, ""], variables: Variables) -> Variables:
        """Adds new adapters to the given variables of ``model``, and returns the new variables."""
        adapters = draw(key, variables["params"], self.rank, self.targets)
        frozen = {**variables.get("frozen", {}), "base": variables["params"]}
        return {"params": {"lora": adapters}, "frozen": frozen, "state": variables.get("state", {})}

    def plain(self, variables: Variables) -> Variables:
        """Turns variables with adapters into variables of ``model``, by adding the adapters to the parameters."""
        frozen = dict(variables["frozen"])
        params = added(frozen.pop("base"), variables["params"]["lora"], self.scale)
        return {"params": params, "frozen": frozen, "state": variables.get("state", {})}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the loss of ``model`` with the adapted parameters, see :class:`archijax.contract.Loss`."""
        return self.model.loss(self.plain(variables), keys, batch)

    def over(self, axis: str) -> Lora:
        """Returns a copy of this model for batches that ``jax.pmap`` splits over the axis called ``axis``."""
        return Lora(over_axis(self.model, axis), self.rank, self.alpha, self.targets)


def draw(key: Key[Array, ""], params: Any, rank: int, targets: Sequence[str] = TARGETS) -> dict[str, Any]:
    """Returns new adapters: a nested dict like ``params``, with {"a": [m, rank], "b": [rank, n]} for each parameter
    that gets an adapter. All "b" are zero.

    A parameter [..., n] gets an adapter if its name matches a target, and if it has at least two axes and more values
    than the adapter.

    Raises:
        InputError: no parameter gets an adapter.
    """
    flat = flatten_dict(dict(params), sep="/")
    matrices = {
        name: (math.prod(leaf.shape[:-1]), leaf.shape[-1])
        for name, leaf in sorted(flat.items())
        if leaf.ndim > 1 and any(fnmatchcase(name, target) for target in targets)
    }
    adapters = {}
    for number, (name, (m, n)) in enumerate(matrices.items()):
        if rank * (m + n) < m * n:
            a = jax.random.normal(jax.random.fold_in(key, number), (m, rank), jnp.float32) * m**-0.5
            adapters |= {f"{name}/a": a, f"{name}/b": jnp.zeros((rank, n), jnp.float32)}
    if not adapters:
        reason = f"is larger than a pair of rank {rank}" if matrices else f"has a name like {' or '.join(targets)}"
        raise InputError(f"no matrix of the model {reason}: examples of its names are {listed(sorted(flat)[-3:])}")
    return unflatten_dict(adapters, sep="/")


def added(params: Any, adapters: Mapping[str, Any], scale: float | Float[Array, ""]) -> Any:
    """Adds ``scale * A B`` to each parameter that has an adapter, and returns all parameters. :func:`draw` makes
    adapters.

    Raises:
        InputError: the parameter of an adapter does not exist, or has another shape.
    """
    flat, pairs = flatten_dict(dict(params), sep="/"), flatten_dict(dict(adapters), sep="/")
    for name in sorted({name.rpartition("/")[0] for name in pairs}):
        a, b = pairs[f"{name}/a"], pairs[f"{name}/b"]
        leaf = flat.get(name)
        if leaf is None or (math.prod(leaf.shape[:-1]), leaf.shape[-1]) != (a.shape[0], b.shape[1]):
            actual = "does not exist" if leaf is None else f"has shape {list(leaf.shape)}"
            needed = f"they need it as a matrix {[len(a), b.shape[1]]}"
            raise InputError(f"these adapters are of another model: {name} {actual}, but {needed}")
        flat[name] = leaf + (scale * (a @ b)).reshape(leaf.shape).astype(leaf.dtype)
    return unflatten_dict(flat, sep="/")
