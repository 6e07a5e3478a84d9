"""Numbers such as seconds as conditioning: tokens behind the text's, and the state of the whole sound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.conditioning import NumberEmbedder, Wrapper
from archijax.nn.linear import Linear


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that a net is conditioned on."""

    name: str
    """Under which batches have it, [b]."""
    low: float
    """The lowest."""
    high: float
    """The highest; what lies outside is taken for the nearest of the two."""
    default: float
    """Where a batch has none."""

    def __post_init__(self):
        if not self.low < self.high:
            raise InputError(f"the number {self.name} goes from {self.low} to {self.high}: the first must be below")
        if not self.low <= self.default <= self.high:
            raise InputError(f"the default of {self.name} is {self.default}: from {self.low} to {self.high} it must be")

    def encode(self, values: Sequence[str | float | None]) -> np.ndarray:
        """The numbers, float32 [b], the default where there is none. Raises InputError for what is no number."""
        numbers = [self.default if value is None else to_number(self, value, bounded=False) for value in values]
        return np.array(numbers, np.float32)


def to_number(of: Any, value: str | float, bounded: bool = True) -> float:
    """A value as a number from of.low to of.high. Raises InputError, naming of.name, if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{of.name} is {value!r}, which is no number: from {of.low:g} to {of.high:g} is needed.")
    if bounded and not of.low <= number <= of.high:
        raise InputError(f"{of.name} is {number:g}, which is out of its range: from {of.low:g} to {of.high:g} it goes.")
    return number


class NumberConditioning(Wrapper):
    """Puts numbers into the embedding and the features of a net: ``net(x, time, seconds_total=[b], ...)``.

    Each becomes a vector by Fourier features of its place in its range. The net's embedding is [text, number, ...], its
    features are the numbers' vectors side by side, before those that are given.

    Fields:
        numbers: in their order.
        width: of a vector, and of a token of the net's embedding.
        text_features: of a token of the text; None: width. Others go through a linear map. A token of zeros alone is
            padding and stays so.
    """

    numbers: Sequence[Number]
    width: int
    text_features: int | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *args,
        embedding: jax.Array | None = None,
        features: jax.Array | None = None,
        **conditioning,
    ) -> jax.Array:
        """Args: embedding [b, n, text_features] or none; features [b, f] or none; numbers [b] by their names."""
        tokens = [] if embedding is None else [self._text(embedding)]
        states = []
        for number in self.numbers:
            value = conditioning.pop(number.name, None)
            value = jnp.full(len(x), number.default) if value is None else jnp.asarray(value, jnp.float32)
            if value.shape != (len(x),):
                raise InputError(f"{number.name} has shape {value.shape}: one number per item [{len(x)}] is needed")
            place = (jnp.clip(value, number.low, number.high) - number.low) / (number.high - number.low)
            states.append(NumberEmbedder(self.width, name=number.name)(place))
        tokens += [state[:, None].astype(tokens[0].dtype if tokens else state.dtype) for state in states]
        states += [] if features is None else [full(features)]
        return self.net(
            x,
            *args,
            embedding=jnp.concatenate(tokens, axis=1),
            features=jnp.concatenate(states, axis=-1),
            **conditioning,
        )

    def _text(self, embedding: jax.Array) -> jax.Array:
        found, needed = embedding.shape[-1], self.text_features or self.width
        if found != needed:
            raise InputError(f"the text's embedding has {found} features: {needed} are needed")
        if self.text_features in (None, self.width):
            return embedding
        there = jnp.any(embedding != 0, axis=-1, keepdims=True)
        mapped = Linear(self.width, dtype=embedding.dtype, name="text")(embedding)
        return jnp.where(there, mapped, jnp.zeros((), mapped.dtype))
