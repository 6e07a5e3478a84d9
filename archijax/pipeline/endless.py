"""Samples sounds of any length with a model of endless sound, in constant device memory."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from archijax.arithmetic import ceil_div
from archijax.contract import EndlessGenerator, Variables
from archijax.errors import InputError
from archijax.pipeline.driver import Progress, silent
from archijax.pipeline.generation import Generation, draw
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings

# The settings that have an effect. `Generation` refuses guidance if the model was not trained for guidance.
TAKEN = ("num_steps", "seed", "guidance_scale")


class Endless(Generation):
    """Samples sounds with a model of endless sound, split by split. A split is a part of the model's window. ``loaded``
    must have a model such as :class:`archijax.DiffusionAR`. :class:`Generation` explains the arguments.

    The devices store only one window of each sound.

    Raises:
        InputError: a setting has no effect on this model, or num_steps is below the model's number of splits.
    """

    def __init__(self, loaded: Loaded, settings: SampleSettings, *arguments: Any, **options: Any):
        super().__init__(loaded, settings, *arguments, **options)
        plain = loaded.resolved(SampleSettings())
        for field in dataclasses.fields(settings):
            value = getattr(self.settings, field.name)
            if field.name not in TAKEN and value != getattr(plain, field.name):
                raise InputError(
                    f"{field.name} is {value}, but this has no effect on a model of endless sound: leave it out."
                )
        model = loaded.model
        if settings.num_steps < model.num_splits:
            raise InputError(f"num_steps is {settings.num_steps}: it must be at least the {model.num_splits} splits.")
        shifts = max(0, ceil_div(self.length, model.split_length) - model.num_splits // 2)
        batches = self.steps // settings.num_steps
        self.steps = batches * (settings.num_steps + shifts * (settings.num_steps // model.num_splits))

    def check(self) -> None:
        """Traces the sampling of the first window. Raises an error if the model cannot sample a window."""
        size = (self.loaded.config.channels, self.settings.num_steps)
        jax.eval_shape(partial(_start, self.loaded.model, *size), self.loaded.variables, self._keys(self.items[:1]))

    def stream(
        self, items: Sequence[tuple[int, int]], progress: Progress = silent
    ) -> Iterator[Float[np.ndarray, "n time c"]]:
        """Yields parts [n, time, c] of the endless sounds of n items. The first part is half a window, and each later
        part is a split."""
        model, num_steps, keys = self.loaded.model, self.settings.num_steps, self._keys(items)
        first, window = _start(model, self.loaded.config.channels, num_steps, self._variables, keys)
        progress(num_steps)
        yield np.asarray(first)[: len(items)]
        for number in itertools.count(2):
            window, split = _shift(model, num_steps, self._variables, window, keys, np.int32(number))
            progress(num_steps // model.num_splits)
            yield np.asarray(split)[: len(items)]

    def batch(self, items: Sequence[tuple[int, int]], progress: Progress) -> Float[np.ndarray, "n {self.length} c"]:
        """Returns the sounds of a batch of n items, before the final processing (see `Finish`)."""
        parts, length = [], 0
        for part in self.stream(items, progress):
            parts.append(part)
            length += part.shape[1]
            if length >= self.length:
                return np.concatenate(parts, axis=1)[:, : self.length]

    def _keys(self, items: Sequence[tuple[int, int]]) -> Key[Array, " b"]:
        # If the batch is not full, its last item is repeated.
        items = [*items, *items[-1:] * (self._size - len(items))]
        numbers = self._shared(np.array([item for _, item in items], np.uint32))
        return draw(jax.random.key(self.settings.seed), numbers, 0, (1, 1))[1]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _start(
    model: EndlessGenerator, channels: int, num_steps: int, variables: Variables, keys: Key[Array, " b"]
) -> tuple[Float[Array, "b half c"], Float[Array, "b time c"]]:
    """Returns (sound, window): the first half window of the finished sound, and the first window for `shift`."""
    noise, ladder = (model.noise(keys, number, model.length, channels) for number in range(2))
    sounds = model.start(variables, noise, num_steps=num_steps)
    return sounds[:, : model.length // 2], model.noised_to_ladder(sounds, ladder, num_steps=num_steps)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _shift(
    model: EndlessGenerator,
    num_steps: int,
    variables: Variables,
    window: Float[Array, "b time c"],
    keys: Key[Array, " b"],
    number: Int[Array, ""],
) -> tuple[Float[Array, "b time c"], Float[Array, "b split c"]]:
    fresh = model.noise(keys, number, model.split_length, window.shape[-1])
    return model.shift(variables, window, fresh, num_steps=num_steps)
