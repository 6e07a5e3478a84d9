"""The losses of a model, and which of its parameters each trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archijax.contract import Loss, Model, MultiLossModel, StatefulModel

Names = tuple[str, ...] | None
"""Names at the first level of "params"; None is all of them."""


def losses(model: Model, trainable: Sequence[str] = ()) -> tuple[tuple[Loss, Names], ...]:
    """The model's losses with the names of the parameters that each trains.

    Args:
        trainable: only these names; empty for all. A loss that is left with none is left out.
    """
    pairs = model.losses if isinstance(model, MultiLossModel) else ((model.loss, None),)
    if not trainable:
        return tuple((loss, None if names is None else tuple(names)) for loss, names in pairs)
    kept = [
        (loss, tuple(trainable if names is None else (name for name in names if name in trainable)))
        for loss, names in pairs
    ]
    return tuple((loss, names) for loss, names in kept if names)


def select(params: Any, names: Names) -> Any:
    """Those of the parameters that have one of the names."""
    return params if names is None else {name: params[name] for name in names}


def over_axis(model: Model, axis: str | None) -> Model:
    """The model for a part of a batch that is split over a mapped axis; None is no axis."""
    return model.over(axis) if axis is not None and isinstance(model, StatefulModel) else model
