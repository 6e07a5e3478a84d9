"""Conditions a net on numbers such as seconds. Each number becomes a token after the tokens of the text. Each number
also becomes a part of the features.
"""

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
    """Describes a number that a net is conditioned on. Example: ``Number("seconds_total", 0, 512, 512)``. A
    :class:`NumberConditioning` around the net takes a list of such descriptions.

    Fields:
        name: the name of the array [b] that holds this number, in a batch and in the arguments of the net.
        low, high: the lowest and the highest value. NumberConditioning clips values outside of this range.
        default: the value for all items of a batch that lacks this number.

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
        """Turns a list of values, such as ``["30", None, 3.5]``, into a float32 array [b]. Each None becomes the field
        `default`. Raises InputError if a value is not a number.
        """
        numbers = [self.default if value is None else to_number(self, value, bounded=False) for value in values]
        return np.array(numbers, np.float32)


def to_number(of: Any, value: str | float, bounded: bool = True) -> float:
    """Converts a value to a float.

    Args:
        of: an object with the attributes name, low and high, such as a :class:`Number`. Error messages quote these
            attributes.
        value: a number, or a string such as "1.5".
        bounded: whether the value must be between low and high.

    Raises:
        InputError: the value is not a finite number, or is out of range.
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
    """Conditions a net on numbers. Each number becomes a token of the embedding and a part of the features.

    ``conditioned = NumberConditioning(net, [Number("seconds_total", 0, 512, 512)], width=8)`` wraps a net such as
    ``DiffusionTransformer(2, 2, head_features=8, embedding_features=8, global_features=8)``. ``conditioned.init(key, x,
    time, seconds_total=seconds)`` makes the variables. ``conditioned.apply(variables, x, time, seconds_total=seconds)``
    with seconds [b] returns the result of the net.

    Each number is scaled from its range to [0, 1], and encoded as a vector by Fourier features. The embedding that the
    net receives consists of the tokens of the text, then one token per number. The features that the net receives
    consist of the vectors of all numbers, then the argument `features`.

    Fields:
        net: a module ``net(x, time, embedding=[b, tokens, width], features=[b, len(numbers) * width + f])``.
        numbers: the list of numbers, in the order of their tokens.
        width: the length of the vectors that encode numbers, and of the tokens that the net receives.
        text_features: the number of features of each token of the text, or None for `width`. If text_features differs
            from width, a linear map turns each token into a vector of length `width`. A token that consists of zeros
            counts as padding and stays zero.
    """

    numbers: Sequence[Number]
    width: int
    text_features: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *args: Any,
        embedding: Float[Array | np.ndarray, "b n e"] | None = None,
        features: Float[Array | np.ndarray, "b f"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net with the numbers, and returns the result of the net.

        Args:
            args: other arguments for the net, such as time [b].
            embedding: the tokens of the text [b, n, text_features], or None without text.
            features: other features [b, f], or None.
            conditioning: one array [b] for each :class:`Number`, by name, and other arguments for the net. The default
                of a Number replaces a missing array.

        Raises:
            InputError: the array of a number is not [b], or the tokens of the text have a wrong number of features.
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
