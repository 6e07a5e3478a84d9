"""Configures conditioners: numbers and categories that a model is conditioned on, in addition to the prompt.

A conditioner turns values that describe sounds, such as the number "bpm" or the category "key", into a NumPy array [b].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import numpy as np
from jaxtyping import Float32, Int32, Shaped

from archijax.errors import InputError, listed, suggestion
from archijax.nn.conditioners import PREFIX, CategoryVector, Conditioners, NumberVector
from archijax.nn.numbers import Number, to_number

Value = str | float | None
"""The value of a number or category, or None for an unknown value."""


@dataclass(frozen=True)
class NumberConfig:
    """Describes a number that a model is conditioned on, such as a tempo.

    Example: ``DiffusionConfig(unet, conditioners=(NumberConfig("bpm", 60, 180),))``.
    """

    name: str
    """The name of the field in the data."""
    low: float
    """The lowest value."""
    high: float
    """The highest value."""
    into: Literal["features", "embedding"] = "features"
    """Whether the vector that encodes the number is added to the time features or becomes a token of the embedding."""
    drop_prob: float = 0.1
    """The probability that training leaves out this number alone, at least 0 and below 1. Sampling can then leave out
    the number, too."""

    def __post_init__(self):
        _check(self)
        if not self.low < self.high:
            raise InputError(f"the number {self.name} has low {self.low} and high {self.high}: low must be below high")

    def encode(self, values: Sequence[Value]) -> Float32[np.ndarray, " b"]:
        """Turns each value into its position from ``low`` (position 0) to ``high`` (position 1). None becomes -1. For
        the range from 60 to 180, ``encode([120, None])`` returns [0.5, -1].

        Raises:
            InputError: a value is not a number, or is out of range.
        """
        low, high = self.low, self.high
        positions = [-1.0 if value is None else (to_number(self, value) - low) / (high - low) for value in values]
        return np.array(positions, np.float32)

    def vector(self, width: int) -> nn.Module:
        """Returns the module that turns positions [b], from :meth:`encode`, into vectors [b, width]."""
        return NumberVector(width)


@dataclass(frozen=True)
class CategoryConfig:
    """Describes a category that a model is conditioned on, such as an instrument.

    Example: ``DiffusionConfig(unet, conditioners=(CategoryConfig("instrument", ("piano", "drums")),))``.
    """

    name: str
    """The name of the field in the data."""
    values: tuple[str, ...] = ()
    """The categories, or () to take the categories from the training data."""
    into: Literal["features", "embedding"] = "features"
    """Whether the vector that encodes the category is added to the time features or becomes a token of the
    embedding."""
    drop_prob: float = 0.1
    """The probability that training leaves out this category alone, at least 0 and below 1. Sampling can then leave out
    the category, too."""

    def __post_init__(self):
        _check(self)
        if len(set(self.values)) < len(self.values):
            raise InputError(
                f"the category {self.name} has the values {', '.join(self.values)}: each must be there once"
            )

    def encode(self, values: Sequence[Value]) -> Int32[np.ndarray, " b"]:
        """Turns the name of each category into its index in the field ``values``. None becomes -1. Raises InputError if
        a category is unknown."""
        indices = {value: index for index, value in enumerate(self.values)}
        words = [None if value is None else to_word(value) for value in values]
        if unknown := [word for word in words if word is not None and word not in indices]:
            hint = suggestion(unknown[0], self.values, f"known are {listed(list(self.values), 12)}.", repr)
            raise InputError(f"{self.name} is {unknown[0]!r}, a category that the model does not know: {hint}")
        return np.array([-1 if word is None else indices[word] for word in words], np.int32)

    def vector(self, width: int) -> nn.Module:
        """Returns the module that turns indices [b], from :meth:`encode`, into vectors [b, width]. The field ``values``
        must not be empty."""
        if not self.values:
            raise InputError(f"the category {self.name} has no values: name them, or training finds them in the data")
        return CategoryVector(len(self.values), width)


ConditionerConfig = NumberConfig | CategoryConfig


def _check(config: ConditionerConfig) -> None:
    if not config.name.isidentifier():
        raise InputError(f"a conditioner has the name {config.name!r}: use letters, digits and _")
    if config.into not in ("features", "embedding"):
        raise InputError(f"{config.name} goes into {config.into!r}: use features or embedding")
    if not 0 <= config.drop_prob < 1:
        raise InputError(f"drop_prob of {config.name} is {config.drop_prob}: it must be at least 0 and below 1")


def to_word(value: str | float) -> str:
    """Returns the name of a category as text, without spaces at both ends.

    The number 4.0 becomes the category "4", because tables store 4 as 4.0.
    """
    return value.strip() if isinstance(value, str) else f"{value:g}"


def check_names(conditioners: Sequence[ConditionerConfig]) -> None:
    """Raises InputError if two conditioners have the same name."""
    names = [conditioner.name for conditioner in conditioners]
    if len(set(names)) < len(names):
        raise InputError(f"the conditioners are called {', '.join(names)}: each name must be there once")


def conditioned(net: nn.Module, conditioners: Sequence[ConditionerConfig], features: int, embedding: int) -> nn.Module:
    """Returns the net, wrapped in :class:`archijax.nn.Conditioners` if there are any conditioners.

    Args:
        features: the width of the vectors that are added to the time features of the net.
        embedding: the width of the vectors that become tokens of the net's embedding.
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
) -> dict[str, Shaped[np.ndarray, " b"]]:
    """Turns the values of conditioners into arrays [b] for a batch. Returns a dict of these arrays by name, such as
    "condition_bpm".

    Args:
        fields: the values of each conditioner by its name, one value per item, such as {"bpm": [120, None]}. None means
            an unknown value.

    Raises:
        InputError: a value is out of range, is no number, or is an unknown category.
    """
    arrays = {}
    for conditioner in conditioners:
        # The numbers of Stable Audio have no prefix.
        name = conditioner.name if isinstance(conditioner, Number) else PREFIX + conditioner.name
        arrays[name] = conditioner.encode(fields[conditioner.name])
    return arrays


def with_values(
    conditioners: Sequence[ConditionerConfig | Number], fields: Mapping[str, Iterable[Value]]
) -> tuple[ConditionerConfig | Number, ...]:
    """Returns the conditioners, with values for all categories. A CategoryConfig without ``values`` gets the values in
    ``fields``, sorted alphabetically.

    Args:
        fields: the values that occur in the data, by the name of the conditioner.

    Raises:
        InputError: ``fields`` has no values for a category.
    """

    def filled(each: Any) -> Any:
        if not isinstance(each, CategoryConfig) or each.values:
            return each
        values = sorted({to_word(value) for value in fields[each.name] if value is not None})
        if not values:
            raise InputError(f"the category {each.name} has no values: no item of the data has a field of that name.")
        return dataclasses.replace(each, values=tuple(values))

    return tuple(map(filled, conditioners))
