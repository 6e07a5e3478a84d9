"""Low-rank adapters of a model's weights (Hu et al. 2021): a transform of its parameters, outside of its nets.

A kernel W [..., n], as a matrix [m, n], becomes W + alpha / rank * A B, A [m, rank], B [rank, n] and zero at first.
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

from archijax.contract import Batch, LossResult, Model, MultiLossModel, Variables
from archijax.errors import InputError, listed
from archijax.training.losses import over_axis

TARGETS = ("*/kernel",)
"""Names of what is adapted unless others are given: all kernels of linear maps and convolutions."""


@dataclass(frozen=True, eq=False)
class Lora:
    """A model of which only adapters are trained; its own parameters are frozen.

    Its variables are "params" {"lora": adapters} and "frozen", with those of the model as "base".

    Fields:
        model: with one loss.
        rank: of the adapters.
        alpha: scales them; None is the rank.
        targets: patterns of the names of parameters that are adapted, such as "net/*to_q/kernel"; * is any text.
    """

    model: Model
    rank: int
    alpha: float | None = None
    targets: Sequence[str] = TARGETS

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"the rank of the adapters is {self.rank}: it must be at least 1")
        if isinstance(self.model, MultiLossModel):
            raise InputError("adapters are trained by one loss, but this model has several: train it as a whole")

    @property
    def scale(self) -> float:
        """What the product of a pair is multiplied by."""
        return (self.rank if self.alpha is None else self.alpha) / self.rank

    def init(self, key: jax.Array, batch: Batch, frozen: Variables | None = None) -> Variables:
        """Variables around those of the model, which depend on the same key as without adapters."""
        return self.around(key, self.model.init(key, batch, frozen) if frozen else self.model.init(key, batch))

    def around(self, key: jax.Array, variables: Variables) -> Variables:
        """New adapters around the variables of the model."""
        adapters = draw(key, variables["params"], self.rank, self.targets)
        frozen = {**variables.get("frozen", {}), "base": variables["params"]}
        return {"params": {"lora": adapters}, "frozen": frozen, "state": variables.get("state", {})}

    def plain(self, variables: Variables) -> Variables:
        """The variables of the model, the adapters added to its parameters."""
        frozen = dict(variables["frozen"])
        params = added(frozen.pop("base"), variables["params"]["lora"], self.scale)
        return {"params": params, "frozen": frozen, "state": variables.get("state", {})}

    def loss(self, variables: Variables, keys: jax.Array, batch: Batch) -> LossResult:
        """That of the model."""
        return self.model.loss(self.plain(variables), keys, batch)

    def over(self, axis: str) -> Lora:
        """With what the model counts summed over a mapped axis."""
        return Lora(over_axis(self.model, axis), self.rank, self.alpha, self.targets)


def draw(key: jax.Array, params: Any, rank: int, targets: Sequence[str] = TARGETS) -> dict[str, Any]:
    """Adapters of parameters, {"name": {... {"a": [m, rank], "b": [rank, n]}}}; their products are zero.

    What is named and no matrix, or so small that a pair would be larger, has none. Raises InputError if nothing has.
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
        what = f"is larger than pairs of rank {rank}" if matrices else f"has a name like {' or '.join(targets)}"
        raise InputError(f"no matrix of the model {what}: its names are such as {listed(sorted(flat)[-3:])}")
    return unflatten_dict(adapters, sep="/")


def added(params: Any, adapters: Mapping[str, Any], scale: float | jax.Array) -> Any:
    """The parameters with scale * A B added to each that has an adapter.

    Raises InputError: adapters of parameters that are not there, or have another shape.
    """
    flat, pairs = flatten_dict(dict(params), sep="/"), flatten_dict(dict(adapters), sep="/")
    for name in sorted({name.rpartition("/")[0] for name in pairs}):
        a, b = pairs[f"{name}/a"], pairs[f"{name}/b"]
        leaf = flat.get(name)
        if leaf is None or (math.prod(leaf.shape[:-1]), leaf.shape[-1]) != (a.shape[0], b.shape[1]):
            there = "is not there" if leaf is None else f"is {list(leaf.shape)}"
            raise InputError(f"these are adapters of another model: {name} {there}, and theirs {[len(a), b.shape[1]]}")
        flat[name] = leaf + (scale * (a @ b)).reshape(leaf.shape).astype(leaf.dtype)
    return unflatten_dict(flat, sep="/")
