"""The verb generate: sounds from noise, for prompts or without.

loaded = load("runs/demo")
sounds = generate(loaded, ["warm pad", "drums"], count=4, guidance=3.0)     # [8, time, channels]
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from archijax import cli
from archijax.errors import InputError
from archijax.models import DiffusionModel
from archijax.sampling import ddim, linear_times
from sample.model import Loaded, load
from sample.output import Output, slugs

__all__ = ["Generate", "Generation", "generate", "load"]


class Generation:
    """Sounds to make: items first, first + 1, ..., first + count - 1 of every prompt, the first prompt's first.

    Item i starts from noise of the key fold_in(key(seed), i), whatever the prompt: its sound depends on the seed, i
    and its own prompt, not on what is made beside it.

    Args:
        loaded: the model.
        prompts: one or several, for a model with text conditioning; an empty one describes nothing, as where training
            left the prompt out.
        count: items for each prompt.
        first: number of the first item.
        seed: root of the noise.
        num_steps: denoising steps.
        guidance: scale of classifier-free guidance, 1 for none; None is 3 for models that can be guided, else 1.
        length_seconds: of each sound; None is the length of the sounds that the model was trained on.
        batch_size: sounds made at once, at most. All batches have one shape, so that one compilation serves them.

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
        seed: int = 0,
        num_steps: int = 50,
        guidance: float | None = None,
        length_seconds: float | None = None,
        batch_size: int = 16,
    ):
        config, guidable = loaded.config, loaded.tokenizer is not None and loaded.model.embedding_mask_proba > 0
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        for name, value in {"count": count, "num_steps": num_steps, "batch_size": batch_size}.items():
            _require(value >= 1, name, value, "at least 1")
        _require(0 <= seed < 2**32, "seed", seed, "between 0 and 4294967295")
        _require(0 <= first <= 2**32 - count, "first", first, "at least 0 and below 4294967296 with count")
        if loaded.tokenizer is None and any(prompts):
            prompt = next(filter(None, prompts))
            raise InputError(f"The prompt {prompt!r} means nothing to this model: it was trained without text.")
        if loaded.tokenizer is not None and not prompts:
            raise InputError("The model follows prompts, but none is given: an empty one makes sounds of any kind.")
        self.guidance = (3.0 if guidable else 1.0) if guidance is None else guidance
        _require(math.isfinite(self.guidance), "guidance", self.guidance, "finite")
        if self.guidance != 1 and not guidable:
            raise InputError(f"guidance is {guidance}, but this model was not trained to be guided: leave it at 1.")
        self.length = config.length
        if length_seconds is not None:
            # Arrays of more samples than that have no index.
            longest = (2**31 - 1) // config.sample_rate
            _require(0 < length_seconds <= longest, "length_seconds", length_seconds, f"above 0 and at most {longest}")
            self.length = max(1, round(length_seconds * config.sample_rate))
        self.loaded, self.guidable, self.seed = loaded, guidable, seed
        self.prompts = prompts or [""]
        self.items = [(number, item) for number in range(len(self.prompts)) for item in range(first, first + count)]
        self.times = np.asarray(linear_times(num_steps))
        # Batches as even as can be, so that little is made only to fill the last.
        self.batches = -(-len(self.items) // batch_size)
        self.size = -(-len(self.items) // self.batches)
        self.steps = self.batches * num_steps
        """Denoising steps over all batches."""

    def compile(self) -> float:
        """Compiles for the shapes of this generation unless they were met before; returns the seconds that it took."""
        began = time.perf_counter()
        x, conditioning = self._begin(0)
        _step.lower(self.loaded.model, self.loaded.variables, x, self.times[0], self.times[1], conditioning).compile()
        return time.perf_counter() - began

    def run(self, progress: Callable[[], Any] = lambda: None) -> Iterator[tuple[int, int, np.ndarray]]:
        """Makes the sounds: (number of the prompt, item, sound [time, channels]), not clipped.

        Calls `progress` at every step.
        """
        model, variables = self.loaded.model, self.loaded.variables
        for batch in range(self.batches):
            x, conditioning = self._begin(batch)
            for t, t_next in zip(self.times[:-1], self.times[1:], strict=True):
                before, x = x, _step(model, variables, x, t, t_next, conditioning)
                # One step late: while the host waits, the device has this step to work on.
                before.block_until_ready()
                progress()
            sounds = np.asarray(x)[:, : self.length]
            for (number, item), sound in zip(self._slice(batch), sounds, strict=False):
                yield number, item, sound

    def _slice(self, batch: int) -> list[tuple[int, int]]:
        return self.items[batch * self.size : (batch + 1) * self.size]

    def _begin(self, batch: int) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The noise and the conditioning of a batch; one that is not full repeats its last item."""
        items = self._slice(batch)
        items += items[-1:] * (self.size - len(items))
        prompts, text = [self.prompts[number] for number, _ in items], {}
        if self.loaded.tokenizer is not None:
            from archijax.text import tokenize

            tokens, mask = tokenize(self.loaded.tokenizer, prompts, self.loaded.config.text.max_length)
            text = {"tokens": tokens, "token_mask": mask}
        numbers = np.array([item for _, item in items], np.uint32)
        shape = (self.size, self.length, self.loaded.config.channels)
        x, conditioning = _begin(
            self.loaded.model, shape, self.loaded.variables, jax.random.key(self.seed), numbers, self.times[0], text
        )
        if self.guidable:
            conditioning["embedding_mask"] = np.array([not prompt.strip() for prompt in prompts])
            if self.guidance != 1:
                conditioning["guidance"] = np.float32(self.guidance)
        return x, conditioning


@partial(jax.jit, static_argnums=(0, 1))
def _begin(model: DiffusionModel, shape, variables, root, items, t, text):
    keys = jax.vmap(lambda item: jax.random.fold_in(root, item))(items)
    return model.start(keys, shape, t), model.conditioning(variables, text)


@partial(jax.jit, static_argnums=0)
def _step(model: DiffusionModel, variables, x, t, t_next, conditioning):
    # A single step, so that any number of them is one compilation, and the progress bar sees each.
    denoise = model.denoiser(variables, **conditioning)
    return ddim(model.process, denoise(x, jnp.broadcast_to(t, x.shape[:1])), x, t, t_next)


def generate(
    loaded: Loaded, prompts: str | Sequence[str] = (), *, progress: Callable[[], Any] = lambda: None, **settings: Any
) -> np.ndarray:
    """Sounds [len(prompts) * count, time, channels], float32 and not clipped; one compilation per shape.

    Takes the settings of :class:`Generation`; `progress` is called at every denoising step of every batch.
    """
    return np.stack([sound for _, _, sound in Generation(loaded, prompts, **settings).run(progress)])


@dataclass(frozen=True)
class Generate:
    """Makes sounds from noise, following prompts if the model reads text: WAV files with a spectrogram each.

    Item i of a prompt is the same sound whatever else is made beside it: --first 3 --count 1 makes item 3 alone.
    """

    model: Path
    """Folder of the training run."""
    out: Path
    """Folder for the files, named by prompt, seed and item."""
    prompt: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """What it should sound like; several may be given."""
    num_steps: int = 50
    """Denoising steps."""
    guidance: float | None = None
    """How strictly the prompt is followed, 1 for no guidance; by default 3 with text, else 1."""
    length_seconds: float | None = None
    """Seconds of each sound; by default those of the sounds that the model was trained on."""
    count: int = 1
    """Sounds for each prompt."""
    first: int = 0
    """Number of the first of them."""
    seed: int = 0
    """Root of the noise; all prompts start from the same."""
    batch_size: int = 16
    """Sounds made at once, at most."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError and OSError."""
        loaded = load(self.model)
        generation = Generation(
            loaded,
            [prompt for several in self.prompt for prompt in several],
            count=self.count,
            first=self.first,
            seed=self.seed,
            num_steps=self.num_steps,
            guidance=self.guidance,
            length_seconds=self.length_seconds,
            batch_size=self.batch_size,
        )
        output = Output(self.out, loaded.config.sample_rate)
        cli.say("compiling …")
        compiled = generation.compile()
        names = slugs(generation.prompts)
        began, writing = time.perf_counter(), 0.0
        with cli.bar(generation.steps, "sampling", "step") as bar:
            for number, item, sound in generation.run(bar.update):
                made, prompt = time.perf_counter(), generation.prompts[number].strip()
                facts = f"seed {self.seed}, item {item}, {self.num_steps} steps, guidance {generation.guidance:g}"
                tags = {"comment": facts, "software": "archijax", **({"title": prompt} if prompt else {})}
                output.write(f"{names[number]}_seed{self.seed}_{item:03d}", sound, prompt or facts, tags)
                writing += time.perf_counter() - made
        took = time.perf_counter() - began - writing
        seconds = len(generation.items) * generation.length / loaded.config.sample_rate
        output.tell_clipped()
        cli.say(
            f"made {seconds:.1f} s of sound in {took:.1f} s, {seconds / took:.3g} times as fast as real time, after "
            f"{compiled:.1f} s of compilation; writing the files took {writing:.1f} s."
        )


def _require(true: bool, name: str, value: Any, right: str) -> None:
    if not true:
        raise InputError(f"{name} is {value}, but must be {right}.")
