"""From a generation to files: compiling, the progress bar, names, and what is said at the end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from archijax import cli
from sample.generation import Generation
from sample.output import Output, slugs


def write(
    generation: Generation,
    output: Output,
    run: Callable[[Callable[[], Any]], Iterator[tuple[int, int, np.ndarray]]],
    steps: int,
    *,
    stem: str | None = None,
    seconds: float | None = None,
    exact: bool = False,
) -> None:
    """Makes the sounds of `run(progress)`, (number of the prompt, item, sound) each, and writes each as it is made.

    Args:
        steps: how often `run` calls its progress.
        stem: beginning of the files' names, by default the prompt.
        seconds: of new sound in each, by default all of it.
        exact: for :meth:`Output.write`.
    """
    settings, guidance = generation.settings, generation.guidance
    cli.say("compiling …")
    compiled = generation.compile()
    names = slugs(generation.prompts) if stem is None else [stem] * len(generation.prompts)
    began, writing, made = time.perf_counter(), 0.0, 0.0
    with cli.bar(steps, "sampling", "step") as bar:
        for number, item, sound in run(bar.update):
            finished, prompt = time.perf_counter(), generation.prompts[number].strip()
            scale = 1 if guidance is None else guidance.scale
            facts = f"seed {settings.seed}, item {item}, {settings.num_steps} steps, guidance {scale:g}"
            if settings.sampler != "ddim":
                facts += f", sampler {settings.sampler}"
            tags = {"comment": facts, "software": "archijax", **({"title": prompt} if prompt else {})}
            output.write(f"{names[number]}_seed{settings.seed}_{item:03d}", sound, prompt or facts, tags, exact)
            made += len(sound) / output.sample_rate if seconds is None else seconds
            writing += time.perf_counter() - finished
    took = time.perf_counter() - began - writing
    output.tell_clipped()
    cli.say(
        f"made {made:.1f} s of sound in {took:.1f} s, {made / took:.3g} times as fast as real time, after "
        f"{compiled:.1f} s of compilation; writing the files took {writing:.1f} s."
    )
