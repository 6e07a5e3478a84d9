"""Samples sounds in batches, with or without prompts. A sound is sampled from noise alone or from a source."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32

from archijax.arithmetic import ceil_div
from archijax.contract import DenoisingGenerator, Generator, Variables
from archijax.errors import require
from archijax.pipeline.driver import Inputs, Program, Progress, compile_for, prepare, run, silent
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings
from archijax.sampling.editing import check_source


class Finish(NamedTuple):
    """Describes the final processing of each sound after sampling, such as decoding a latent.

    Attributes:
        sample_rate: the sample rate of the result, in Hz.
        apply: a function (sound [time, channels], number of the sound, progress) -> processed sound [time, channels].
        steps: the number of steps that ``apply`` reports as progress.
    """

    sample_rate: int
    apply: Callable[[np.ndarray, int, Progress], np.ndarray] = lambda sound, item, progress: sound
    steps: int = 0


def numbered(prompts: Sequence[str], count: int, first: int) -> list[tuple[int, int]]:
    """Returns ``count`` items per prompt. An item is a pair (number of the prompt, number of the sound).

    ``numbered(["a", "b"], 2, 5)`` returns [(0, 5), (0, 6), (1, 5), (1, 6)]. Raises InputError if ``count`` or ``first``
    is out of range.
    """
    require(count >= 1, "count", count, "at least 1")
    require(0 <= first <= 2**32 - count, "first", first, "at least 0 and below 4294967296 with count")
    return list(itertools.product(range(len(prompts)), range(first, first + count)))


class Generation:
    """Samples sounds in batches. An item is a pair (number of the prompt, number of the sound).

    For every prompt, the noise of sound i is drawn from the key ``fold_in(key(seed), i)``. A sound depends on the seed,
    on i and on the prompt, but not on the other items. The items of a batch are split over the local devices.

    Args:
        loaded: the loaded model, such as a :class:`archijax.Pipeline`.
        settings: the settings of sampling.
        prompts: the prompts, for a model with text; [""] for a model without text. An empty prompt means "no prompt",
            as in training.
        items: at least one item, such as the result of :func:`numbered`.
        length: the number of samples of each sound; None: the length of the training sounds.
        batch_size: the largest number of sounds in a batch. All batches have the same shape, so one compilation is
            enough.
        source: a sound [length, channels] to vary (with ``strength``) or to inpaint (with ``mask``); None: no source.
        strength: the amount of noise to add to the source, above 0 and at most 1. At 1, sampling starts from noise
            alone.
        mask: bool [length], True for the samples of the source to keep; None: no sample is kept.
        num_resamples: how often each step is taken if there is a mask.
        circular: whether a window can contain the end and the beginning of a sound. The sound can then loop. Circular
            windows need window_seconds in the settings, and a length that is a multiple of the model's length_multiple.
        finish: the final processing of each sound; None: no processing.
        conditions: a dict from the names of conditioners to values, which all sounds share. A conditioner without a
            value has no effect.
        numbers: a dict of the other conditioning numbers by name, such as the result of `Loaded.timing`.

    Attributes:
        steps: the total number of steps that `run` reports as progress.

    Raises:
        InputError: the settings contradict each other, or the model does not support a setting.
    """

    def __init__(
        self,
        loaded: Loaded,
        settings: SampleSettings,
        prompts: Sequence[str],
        items: Sequence[tuple[int, int]],
        *,
        length: int | None = None,
        batch_size: int = 16,
        source: Float[np.ndarray, "time c"] | None = None,
        strength: float = 1.0,
        mask: Bool[np.ndarray, " time"] | None = None,
        num_resamples: int = 1,
        circular: bool = False,
        finish: Finish | None = None,
        conditions: Mapping[str, str | float] | None = None,
        numbers: Mapping[str, float] | None = None,
    ):
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        require(num_resamples >= 1, "num_resamples", num_resamples, "at least 1")
        settings = loaded.resolved(settings)
        self.loaded, self.settings, self.items, self.numbers = loaded, settings, list(items), dict(numbers or {})
        self.prompts = loaded.checked(prompts)
        self._conditions = dict(conditions or {})
        loaded.conditions(self._conditions, 1)
        self.length = loaded.config.length if length is None else length
        self.scale = settings.scale(loaded.guidable)
        loaded.needs(Generator if source is None else DenoisingGenerator, "generates" if source is None else "edits")
        if source is not None:
            check_source(source, strength, mask, (self.length, loaded.config.channels))
        self.source, self.strength, self.mask = source, strength, mask
        self.finish = finish or Finish(loaded.config.sample_rate)
        # The batches have nearly equal sizes, so that the last batch needs little filling.
        batches = ceil_div(len(self.items), batch_size)
        share = ceil_div(len(self.items), batches)
        self._batches = [self.items[first : first + share] for first in range(0, len(self.items), share)]
        devices = jax.local_devices()[:share]
        self._size = ceil_div(share, len(devices)) * len(devices)
        self.steps = batches * settings.num_steps + len(self.items) * self.finish.steps
        mesh = jax.sharding.Mesh(np.array(devices), "items")
        self._shared = partial(jax.device_put, device=jax.NamedSharding(mesh, jax.P("items")))
        self._replicated = jax.NamedSharding(mesh, jax.P())
        model = loaded.model
        self._program = self._timesteps = None
        # A generator of a user need not be a DenoisingGenerator.
        if isinstance(model, DenoisingGenerator):
            window = settings.window(loaded.config.sample_rate, model.length_multiple)
            self._program = Program(model, settings.compiled, window, circular, num_resamples)
            self._timesteps = model.process.timesteps(settings.num_steps, settings.timestep_spacing, strength=strength)

    @cached_property
    def _variables(self) -> Variables:
        return jax.device_put(self.loaded.variables, self._replicated)

    def compile(self) -> float:
        """Compiles the sampling programs, unless they are already compiled. Returns the seconds that the compilation
        took."""
        began, items = time.perf_counter(), self._batches[0]
        if self._program is not None:
            compile_for(self._program, self._variables, self._inputs(items, self.source, self.mask, 0))
        return time.perf_counter() - began

    def check(self) -> None:
        """Traces the sampling program, but does not run it. Raises an error if the model does not take the
        conditioning."""
        inputs = self._inputs(self._batches[0], self.source, self.mask, 0)
        if self._program is not None:
            jax.eval_shape(partial(prepare, self._program), self.loaded.variables, inputs, self._timesteps[0])
        else:
            jax.eval_shape(self._whole, self.loaded.variables, inputs)

    def run(self, progress: Progress = silent) -> Iterator[tuple[int, int, Shaped[np.ndarray, "time c"]]]:
        """Samples all items. Yields (number of the prompt, number of the sound, sound [time, channels]). The sounds are
        not clipped."""
        for items in self._batches:
            for (number, item), sound in zip(items, self.batch(items, progress), strict=True):
                yield number, item, self.finish.apply(sound, item, progress)

    def batch(self, items: Sequence[tuple[int, int]], progress: Progress) -> Shaped[np.ndarray, "n time c"]:
        """Returns the sounds of a batch of n items, before the final processing (see `Finish`)."""
        return self.sample(items, progress, self.source, self.mask)

    def sample(
        self,
        items: Sequence[tuple[int, int]],
        progress: Progress,
        source: Float[np.ndarray, "*n time c"] | None = None,
        mask: Bool[np.ndarray, " time"] | None = None,
        part: int = 0,
    ) -> Shaped[np.ndarray, "n {self.length} c"]:
        """Returns the sounds of a batch of n items, sampled from noise or from a source.

        Args:
            items: at most ``batch_size`` items.
            source: one source for all items, or one source per item; None: no source.
            part: the number of the part, if a sound is sampled in several parts. Parts have different noise.
        """
        return np.asarray(self._sounds(items, progress, source, mask, part))[: len(items), : self.length]

    def _sounds(self, items, progress: Progress, source=None, mask=None, part: int = 0) -> Float[Array, "b time c"]:
        inputs = self._inputs(items, source, mask, part)
        if self._program is not None:
            return run(self._program, self._variables, inputs, self._timesteps, progress)
        sounds = self._whole(self._variables, inputs)
        progress(self.settings.num_steps)
        return sounds

    def _whole(self, variables: Variables, inputs: Inputs) -> Float[Array, "b time c"]:
        # The function is jitted anew at every call, because the model of a user may not be hashable.
        scale = {} if inputs.scale is None else {"guidance": inputs.scale}
        settings = {"shape": inputs.noise.shape, "num_steps": self.settings.num_steps}
        sample = jax.jit(partial(self.loaded.model.sample, **settings))
        return sample(variables, inputs.keys, **scale, **inputs.batch)

    def _inputs(self, items: Sequence[tuple[int, int]], source, mask, part: int) -> Inputs:
        """Returns the inputs of a batch. If the batch is not full, the last item is repeated."""
        filling = self._size - len(items)
        items = [*items, *items[-1:] * filling]
        prompts = [self.prompts[number] for number, _ in items]
        batch, negative, kept = self.loaded.tokens(prompts), None, None
        batch |= self.loaded.conditions(self._conditions, self._size)
        if self.scale is not None and self.settings.has_negative_prompt:
            negative = self.loaded.tokens([self.settings.negative_prompt] * self._size)
        batch |= {
            name: np.full(self._size, value, np.float32)
            for name, value in self.numbers.items()
            if name not in self._conditions
        }
        if self.loaded.guidable and self.loaded.tokenizer is not None:
            # As in training, the mask is True for items without a prompt.
            batch["embedding_mask"] = np.array([not prompt for prompt in prompts])
        shape = (self.length, self.loaded.config.channels)
        if source is not None:
            source = np.concatenate([source, source[-1:].repeat(filling, 0)]) if source.ndim == 3 else source
            source = np.ascontiguousarray(np.broadcast_to(source, (self._size, *shape)), np.float32)
        numbers = np.array([item for _, item in items], np.uint32)
        numbers, batch, negative, source = self._shared((numbers, batch, negative, source))
        noise, keys = draw(jax.random.key(self.settings.seed), numbers, part, shape)
        if mask is not None:
            kept = source, mask[:, None]
        # At strength 1 the start is noise alone. The sampler then inserts the kept samples at every step.
        source = source if self.strength < 1 else None
        scale = None if self.scale is None else np.float32(self.scale)
        return Inputs(noise, batch, keys, scale, negative, source, kept)


@partial(jax.jit, static_argnums=3)
def draw(
    root: Key[Array, ""], items: UInt32[Array, " b"], part: Int[Array, ""], shape: tuple[int, int]
) -> tuple[Float[Array, "b {shape[0]} {shape[1]}"], Key[Array, " b"]]:
    """Returns (noise, keys) for the sounds whose numbers are ``items``. ``part`` is the number of the part if a sound
    has several parts, else 0. ``shape`` is (time, channels)."""
    keys = jax.vmap(lambda item: jax.random.fold_in(root, item))(items)
    # Each later part has its own keys, which differ from the keys of step_keys.
    keys = jax.vmap(lambda key: jax.lax.cond(part > 0, lambda: jax.random.fold_in(key, 1 + part), lambda: key))(keys)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys), keys
