"""Making sounds with a loaded model, for prompts or without, from noise or from another sound.

loaded = load("runs/demo")
sounds = generate(loaded, ["warm pad", "drums"], count=4, guidance_scale=3.0)     # [8, time, channels]
"""

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from archijax.errors import InputError
from archijax.models import DiffusionModel, check_source, step_keys
from archijax.sampling import State, advance, begin
from sample.model import Loaded
from sample.settings import Settings, require


class Generation:
    """Sounds to make: items first, first + 1, ..., first + count - 1 of every prompt, the first prompt's first.

    Item i starts from noise of the key fold_in(key(seed), i), whatever the prompt: its sound depends on the seed, i
    and its own prompt, not on what is made beside it. The items of a batch are spread over the local devices.

    Args:
        loaded: the model.
        prompts: one or several, for a model with text conditioning; an empty one describes nothing, as where training
            left the prompt out.
        count: items for each prompt.
        first: number of the first item.
        frames: samples of each sound; None is the length of the sounds that the model was trained on.
        batch_size: sounds made at once, at most. All batches have one shape, so that one compilation serves them.
        source: a sound [frames, channels] to start from; see `strength` and `mask`.
        strength: how much of the way to noise the source is taken, above 0 to 1.
        mask: bool [frames], True where the source is kept; the rest is made to fit.
        num_resamples: how often each step with a mask is taken.
        circular: each sound goes on at its beginning; needs a window, and a length that the net divides.
        skip: (number of the prompt, item) of what is not to be made; something must be left.
        settings: of :class:`Settings`.

    Raises:
        InputError: a setting that makes no sense, prompts to a model without text or none to one with it.
    """

    def __init__(
        self,
        loaded: Loaded,
        prompts: str | Sequence[str] = (),
        *,
        count: int = 1,
        first: int = 0,
        frames: int | None = None,
        batch_size: int = 16,
        source: np.ndarray | None = None,
        strength: float = 1.0,
        mask: np.ndarray | None = None,
        num_resamples: int = 1,
        circular: bool = False,
        skip: Collection[tuple[int, int]] = (),
        **settings: Any,
    ):
        self.settings = Settings(**settings)
        prompts = [prompt.strip() for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        numbers = {"count": count, "batch_size": batch_size, "num_resamples": num_resamples}
        for name, value in numbers.items():
            require(value >= 1, name, value, "at least 1")
        require(0 <= first <= 2**32 - count, "first", first, "at least 0 and below 4294967296 with count")
        if loaded.tokenizer is None and any(prompts):
            prompt = next(filter(None, prompts))
            raise InputError(f"The prompt {prompt!r} means nothing to this model: it was trained without text.")
        if loaded.tokenizer is not None and not prompts:
            raise InputError("The model follows prompts, but none is given: an empty one makes sounds of any kind.")
        self.loaded, self.prompts = loaded, prompts or [""]
        self.guidance = self.settings.make_guidance(loaded)
        self.length = loaded.config.length if frames is None else frames
        require(self.length >= 1, "frames", self.length, "at least 1")
        if source is not None:
            check_source(source, strength, mask, (*source.shape[:-2], self.length, loaded.config.channels))
        self.source, self.mask, self.strength = source, mask, strength
        self.times = loaded.model.process.timesteps(
            self.settings.num_steps, self.settings.timestep_spacing, strength=strength
        )
        every = itertools.product(range(len(self.prompts)), range(first, first + count))
        self.items = [item for item in every if item not in skip]
        # Batches as even as can be, so that little is made only to fill the last.
        self.batches = -(-len(self.items) // batch_size)
        self._share = -(-len(self.items) // self.batches)
        devices = jax.local_devices()[: self._share]
        self.size = -(-self._share // len(devices)) * len(devices)
        self.steps = self.batches * self.settings.num_steps
        """Denoising steps over all batches."""
        mesh = jax.sharding.Mesh(np.array(devices), "items")
        self._spread = jax.NamedSharding(mesh, jax.P("items"))
        self._variables = jax.device_put(loaded.variables, jax.NamedSharding(mesh, jax.P()))
        self._made = (
            loaded.model, self.settings.make_sampler(), num_resamples,
            self.settings.clamp, self.settings.threshold, self.settings.window(loaded), circular,
        )  # fmt: skip

    def compile(self) -> float:
        """Compiles for the shapes of this generation unless they were met before; returns the seconds that it took."""
        began = time.perf_counter()
        state, given = self._begin(0, self.source, self.mask, 0)
        _step.lower(self._made, self._variables, state, self.times[:2], given).compile()
        return time.perf_counter() - began

    def run(self, progress: Callable[[], Any] = lambda: None) -> Iterator[tuple[int, int, np.ndarray]]:
        """Makes the sounds: (number of the prompt, item, sound [time, channels]), not clipped.

        Calls `progress` at every step.
        """
        for batch in range(self.batches):
            sounds = self.make(batch, progress, self.source, self.mask)
            for (number, item), sound in zip(self.of(batch), sounds, strict=True):
                yield number, item, sound

    def of(self, batch: int) -> list[tuple[int, int]]:
        """The (number of the prompt, item) of a batch."""
        return self.items[batch * self._share : (batch + 1) * self._share]

    def make(
        self,
        batch: int,
        progress: Callable[[], Any],
        source: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        part: int = 0,
    ) -> np.ndarray:
        """The sounds of a batch [n, time, channels]; part numbers what is made one after the other for an item.

        Args:
            source: [frames, channels] for all, or [n, frames, channels].
            mask: bool [frames].
        """
        state, given = self._begin(batch, source, mask, part)
        state = stepped(self._made, self._variables, state, self.times, given, progress)
        return np.asarray(state.x)[: len(self.of(batch)), : self.length]

    def _begin(self, batch: int, source, mask, part: int) -> tuple[State, dict[str, Any]]:
        """The first state and what the model is given; a batch that is not full repeats its last item."""
        items = self.of(batch)
        filling = self.size - len(items)
        items = items + items[-1:] * filling
        prompts = [self.prompts[number] for number, _ in items]
        text, negative = self.loaded.tokens(prompts), {}
        if self.guidance is not None and self.settings.steers_away:
            negative = self.loaded.tokens([self.settings.negative_prompt] * self.size)
        numbers = np.array([item for _, item in items], np.uint32)
        shape = (self.size, self.length, self.loaded.config.channels)
        if source is not None:
            source = np.concatenate([source, source[-1:].repeat(filling, 0)]) if source.ndim == 3 else source
            source = np.ascontiguousarray(np.broadcast_to(source, shape), np.float32)
        spread = partial(jax.device_put, device=self._spread)
        numbers, text, negative, source = spread((numbers, text, negative, source))
        # At full strength the start is noise: what a mask keeps comes in at every step.
        started = source if self.strength < 1 else None
        state, conditioning, negative = _begin(
            self.loaded.model, shape, self._variables, jax.random.key(self.settings.seed), numbers, part,
            self.times[0], started, text, negative,
        )  # fmt: skip
        if "embedding" in conditioning and self.loaded.model.cond_drop_prob > 0:
            conditioning["embedding_mask"] = spread(np.array([not prompt for prompt in prompts]))
        given = {"conditioning": conditioning, "negative": negative or None, "guidance": self.guidance}
        if mask is not None:
            given |= {"source": source, "mask": mask[:, None]}
        return state, given


@partial(jax.jit, static_argnums=(0, 1))
def _begin(model: DiffusionModel, shape, variables, root, items, part, t, source, text, negative):
    keys = jax.vmap(lambda item: jax.random.fold_in(root, item))(items)
    # Parts after the first have keys of their own, and none that step_keys makes.
    keys = jax.vmap(lambda key: jax.lax.cond(part > 0, lambda: jax.random.fold_in(key, 1 + part), lambda: key))(keys)
    x = model.start(keys, shape, t, source=source)
    negative = model.conditioning(variables, negative) if negative else {}
    return begin(x, t, step_keys(keys)), model.conditioning(variables, text), negative


def stepped(
    made: tuple, variables: dict, state: State, times: np.ndarray, given: dict, progress: Callable[[], Any]
) -> State:
    """The state after all steps over times [n + 1]; calls `progress` at each.

    Args:
        made: (model, sampler, num_resamples, clamp, threshold, window, circular), hashable: what is compiled for.
        given: "conditioning", "negative" and "guidance", the last two may be None; with "source" and "mask" inpainting.
    """
    for pair in itertools.pairwise(times):
        before, state = state, _step(made, variables, state, np.array(pair), given)
        # One step late: while the host waits, the device has this step to work on.
        before.x.block_until_ready()
        progress()
    return state


@partial(jax.jit, static_argnums=0)
def _step(made, variables, state: State, times, given):
    # A single step, so that any number of them is one compilation, and the progress bar sees each.
    model, sampler, num_resamples, clamp, threshold, window, circular = made
    denoise = model.denoiser(
        variables, guidance=1 if given["guidance"] is None else given["guidance"], negative=given["negative"],
        clamp=clamp, threshold=threshold, window=window, circular=circular, **given["conditioning"],
    )  # fmt: skip
    if "mask" in given:
        sampler = model.inpainting(given["source"], given["mask"], sampler, num_resamples)
    return advance(denoise, model.process, state, times, sampler)[0]


def generate(
    loaded: Loaded, prompts: str | Sequence[str] = (), *, progress: Callable[[], Any] = lambda: None, **settings: Any
) -> np.ndarray:
    """Sounds [len(prompts) * count, time, channels], float32 and not clipped; one compilation per shape.

    Takes the settings of :class:`Generation`; `progress` is called at every denoising step of every batch.
    """
    return np.stack([sound for _, _, sound in Generation(loaded, prompts, **settings).run(progress)])
