"""Configurations of conditioners: numbers and categories that sounds are made by, beside the prompt.

What is known of a sound, such as {"bpm": 120, "key": "A minor"}, becomes arrays on the host; nets never see a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import numpy as np

from archijax.errors import InputError, listed, suggestion
from archijax.nn.conditioners import PREFIX, CategoryVector, Conditioners, NumberVector
from archijax.nn.numbers import Number, to_number

Value = str | float | None
"""Of a field; None where nothing is known."""


@dataclass(frozen=True)
class NumberConfig:
    """A number that sounds are made by, such as a tempo."""

    name: str
    """Of the field in the data."""
    low: float
    """The lowest."""
    high: float
    """The highest."""
    into: Literal["features", "embedding"] = "features"
    """What it joins: the time features, as what holds for the whole sound, or the embedding, as a token."""
    drop_prob: float = 0.1
    """How often training leaves it out alone, so that sampling may, too."""

    def __post_init__(self):
        _check(self)
        if not self.low < self.high:
            raise InputError(f"the number {self.name} goes from {self.low} to {self.high}: the first must be below")

    def encode(self, values: Sequence[Value]) -> np.ndarray:
        """Places in the range, float32 [b], -1 where there is none. Raises InputError: no number, or out of range."""
        low, high = self.low, self.high
        places = [-1.0 if value is None else (to_number(self, value) - low) / (high - low) for value in values]
        return np.array(places, np.float32)

    def vector(self, width: int) -> nn.Module:
        """What makes vectors of these places."""
        return NumberVector(width)


@dataclass(frozen=True)
class CategoryConfig:
    """One of several words that sounds are made by, such as an instrument."""

    name: str
    """Of the field in the data."""
    values: tuple[str, ...] = ()
    """The categories; empty: training finds them in the data."""
    into: Literal["features", "embedding"] = "features"
    """What it joins: the time features, as what holds for the whole sound, or the embedding, as a token."""
    drop_prob: float = 0.1
    """How often training leaves it out alone, so that sampling may, too."""

    def __post_init__(self):
        _check(self)
        if len(set(self.values)) < len(self.values):
            raise InputError(f"the category {self.name} has the values {', '.join(self.values)}: each once is needed")

    def encode(self, values: Sequence[Value]) -> np.ndarray:
        """Numbers of categories, int32 [b], -1 where there is none. Raises InputError for one that is not known."""
        places = {value: place for place, value in enumerate(self.values)}
        words = [None if value is None else to_word(value) for value in values]
        if unknown := [word for word in words if word is not None and word not in places]:
            hint = suggestion(unknown[0], self.values, f"known are {listed(list(self.values), 12)}.", repr)
            raise InputError(f"{self.name} is {unknown[0]!r}, a category that the model has never seen: {hint}")
        return np.array([-1 if word is None else places[word] for word in words], np.int32)

    def vector(self, width: int) -> nn.Module:
        """What makes vectors of these numbers."""
        if not self.values:
            raise InputError(f"the category {self.name} has no values: training finds them in the data, or name them")
        return CategoryVector(len(self.values), width)


ConditionerConfig = NumberConfig | CategoryConfig


def _check(config: ConditionerConfig) -> None:
    if not config.name.isidentifier():
        raise InputError(f"a conditioner has the name {config.name!r}: letters, digits and _ are needed")
    if config.into not in ("features", "embedding"):
        raise InputError(f"{config.name} goes into {config.into!r}: features or embedding are needed")
    if not 0 <= config.drop_prob < 1:
        raise InputError(f"drop_prob of {config.name} is {config.drop_prob}: it must be at least 0 and below 1")


def to_word(value: str | float) -> str:
    """The category that a field names: tables of numbers turn 4 into 4.0, which is the category "4"."""
    return value.strip() if isinstance(value, str) else f"{value:g}"


def check_names(conditioners: Sequence[ConditionerConfig]) -> None:
    """Raises InputError unless all have names of their own."""
    names = [conditioner.name for conditioner in conditioners]
    if len(set(names)) < len(names):
        raise InputError(f"the conditioners are called {', '.join(names)}: each name once is needed")


def conditioned(net: nn.Module, conditioners: Sequence[ConditionerConfig], features: int, embedding: int) -> nn.Module:
    """The net with its conditioners around it; the net itself without any.

    Args:
        features: the width of its features.
        embedding: the width of a token of its embedding.
    """
    if not conditioners:
        return net
    vectors = {
        into: {each.name: each.vector(width) for each in conditioners if each.into == into}
        for into, width in (("features", features), ("embedding", embedding))
    }
    return Conditioners(net, features=vectors["features"], tokens=vectors["embedding"])


def encode_fields(
    conditioners: Iterable[ConditionerConfig | Number], fields: Mapping[str, Sequence[Value]]
) -> dict[str, np.ndarray]:
    """The arrays [b] of a batch, by their names in it, of fields {name: [value or None of each item]}.

    Raises InputError for a value that a conditioner does not take.
    """
    arrays = {}
    for conditioner in conditioners:
        # Numbers of Stable Audio have a default and are never left out.
        name = conditioner.name if isinstance(conditioner, Number) else PREFIX + conditioner.name
        arrays[name] = conditioner.encode(fields[conditioner.name])
    return arrays


def with_values(
    conditioners: Sequence[ConditionerConfig | Number], found: Mapping[str, Iterable[Value]]
) -> tuple[ConditionerConfig | Number, ...]:
    """The conditioners with the categories that are not named filled in from what the fields hold, in order.

    Raises InputError: there is none.
    """

    def filled(each: Any) -> Any:
        if not isinstance(each, CategoryConfig) or each.values:
            return each
        values = sorted({to_word(value) for value in found[each.name] if value is not None})
        if not values:
            raise InputError(f"the category {each.name} has no values: no item of the data has a field of that name.")
        return dataclasses.replace(each, values=tuple(values))

    return tuple(map(filled, conditioners))
