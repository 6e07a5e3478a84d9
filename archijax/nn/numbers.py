"""Conditioning on numbers such as seconds: as tokens after those of the text, and as features of the whole sound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.conditioning import NumberEmbedder, Wrapper
from archijax.nn.linear import Linear


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that a net is conditioned on.

    Fields:
        name: its key in a batch; the array has the shape [b].
        low, high: the range. A value outside of it is clipped.
        default: the value for a batch without this number.

    Raises:
        InputError: low is not below high, or the default is not in the range.
    """

    name: str
    low: float
    high: float
    default: float

    def __post_init__(self):
        if not self.low < self.high:
            raise InputError(f"the number {self.name} has low {self.low} and high {self.high}: low must be below high")
        if not self.low <= self.default <= self.high:
            raise InputError(f"the default of {self.name} is {self.default}: it must be from {self.low} to {self.high}")

    def encode(self, values: Sequence[str | float | None]) -> Float32[np.ndarray, " b"]:
        """The values as an array; None becomes the default. Raises InputError if a value is not a number."""
        numbers = [self.default if value is None else to_number(self, value, bounded=False) for value in values]
        return np.array(numbers, np.float32)


def to_number(of: Any, value: str | float, bounded: bool = True) -> float:
    """A value as a float.

    Args:
        of: an object with a name and a range, low and high. Error messages state them.
        value: a number, or a text that is one.
        bounded: whether the value must be in the range.

    Raises:
        InputError: the value is not a finite number, or not in the range.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{of.name} is {value!r}, which is not a number: it must be from {of.low:g} to {of.high:g}.")
    if bounded and not of.low <= number <= of.high:
        raise InputError(f"{of.name} is {number:g}, which is out of range: it must be from {of.low:g} to {of.high:g}.")
    return number


class NumberConditioning(Wrapper):
    """Adds numbers to the embedding and to the features of a net: ``net(x, time, seconds_total=[b], ...)``.

    Each number is scaled from its range to [0, 1] and becomes a vector by Fourier features. The net's embedding
    consists of the tokens of the text and one token per number. Its features are the vectors of the numbers, followed
    by the features of the call.

    Fields:
        numbers: in the order of their tokens.
        width: features of a vector, and of a token of the net's embedding.
        text_features: features of a token of the text; None: width. If they differ from width, a linear map changes
            them to width. A token of zeros is padding and stays zero.
    """

    numbers: Sequence[Number]
    width: int
    text_features: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *positions c"],
        *args: Any,
        embedding: Float[Array | np.ndarray, "b n e"] | None = None,
        features: Float[Array | np.ndarray, "b f"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net.

        Args:
            embedding: the text, with e = text_features.
            conditioning: the numbers [b] by their names, and other conditioning of the net.

        Raises:
            InputError: a number or the embedding has a wrong shape.
        """
        tokens = [] if embedding is None else [self._text(embedding)]
        states = []
        for number in self.numbers:
            value = conditioning.pop(number.name, None)
            value = jnp.full(len(x), number.default) if value is None else jnp.asarray(value, jnp.float32)
            if value.shape != (len(x),):
                raise InputError(f"{number.name} has shape {value.shape}: one number per item [{len(x)}] is needed")
            position = (jnp.clip(value, number.low, number.high) - number.low) / (number.high - number.low)
            states.append(NumberEmbedder(self.width, name=number.name)(position))
        tokens += [state[:, None].astype(tokens[0].dtype if tokens else state.dtype) for state in states]
        states += [] if features is None else [full(features)]
        return self.net(
            x,
            *args,
            embedding=jnp.concatenate(tokens, axis=1),
            features=jnp.concatenate(states, axis=-1),
            **conditioning,
        )

    def _text(self, embedding: Float[Array | np.ndarray, "b n e"]) -> Float[Array, "b n {self.width}"]:
        embedding = jnp.asarray(embedding)
        size, needed = embedding.shape[-1], self.text_features or self.width
        if size != needed:
            raise InputError(f"the text's embedding has {size} features: {needed} are needed")
        if self.text_features in (None, self.width):
            return embedding
        is_text = jnp.any(embedding != 0, axis=-1, keepdims=True)
        mapped = Linear(self.width, dtype=embedding.dtype, name="text")(embedding)
        return jnp.where(is_text, mapped, jnp.zeros((), mapped.dtype))
