"""Lists the losses of a model, and the parameters that each loss trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archijax.contract import Model, MultiLossModel, StatefulModel

Names = tuple[str, ...] | None
"""A tuple of paths of parts of "params", such as ("net/decoder",), or None for all parts."""


def losses(model: Model, trainable: Sequence[str] = ()) -> tuple[tuple[Callable, Names], ...]:
    """Returns pairs (a loss function of the model, the names of the parameters that this loss trains).

    Args:
        trainable: paths of the parts to train, such as "net/decoder", or () for all parts. A loss that trains none of
            these parts is left out.
    """
    pairs = model.losses if isinstance(model, MultiLossModel) else ((model.loss, None),)
    if not trainable:
        return tuple((loss, None if names is None else tuple(names)) for loss, names in pairs)
    kept = [
        (loss, tuple(trainable if names is None else (path for path in trainable if path.split("/")[0] in names)))
        for loss, names in pairs
    ]
    return tuple((loss, names) for loss, names in kept if names)


def select(params: Any, names: Names) -> Any:
    """Returns the parameters at the paths ``names``, nested as in ``params``."""
    if names is None:
        return params
    selected: dict[str, Any] = {}
    for name in names:
        *parents, last = name.split("/")
        source, target = params, selected
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return selected


def merge(params: Any, selected: Any) -> Any:
    """Returns ``params``, where the parameters in ``selected`` replace the parameters at the same paths."""
    if not isinstance(selected, dict):
        return selected
    return {**params, **{name: merge(params[name], part) for name, part in selected.items()}}


def has(params: Any, name: str) -> bool:
    """Returns whether the parameters have a part at the path ``name``, such as "net/decoder"."""
    for key in name.split("/"):
        if not isinstance(params, dict) or key not in params:
            return False
        params = params[key]
    return True


def over_axis(model: Model, axis: str | None) -> Model:
    """Returns the model for batches that ``jax.pmap`` splits over the axis called ``axis``. If ``axis`` is None, the
    batches are not split, and the model itself is returned."""
    return model.over(axis) if axis is not None and isinstance(model, StatefulModel) else model
