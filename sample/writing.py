"""Writes the sounds of a generation to files, with a progress bar, and finds sounds that exist already."""

import time

from archijax import cli
from archijax.audio import files
from archijax.errors import InputError
from archijax.pipeline.generation import Generation
from sample.output import Output, slugs
from sample.work import digest


def write(
    generation: Generation,
    output: Output,
    *,
    stem: str | None = None,
    seconds: float | None = None,
    exact: bool = False,
    made_of: str | None = None,
) -> None:
    """Makes the sounds of a generation, and writes each sound as soon as it is made.

    Args:
        stem: the text with which the file names begin; None: the prompt.
        seconds: the length of the new part of each result; None: the whole result is new.
        exact: whether to write samples unchanged; see :meth:`Output.write`.
        made_of: a hash of the model and the settings. :func:`finished` recognises sounds by this hash.
    """
    settings, scale = generation.settings, 1 if generation.scale is None else generation.scale
    cli.say("compiling …")
    compiled = generation.compile()
    names = _names(generation, stem)
    began, writing, total = time.perf_counter(), 0.0, 0.0
    with cli.bar(generation.steps, "sampling", "step") as bar:
        for number, item, sound in generation.run(bar.update):
            sampled, prompt = time.perf_counter(), generation.prompts[number]
            facts = f"seed {settings.seed}, item {item}, {settings.num_steps} steps, guidance {scale:g}"
            if settings.sampler != "ddim":
                facts += f", sampler {settings.sampler}"
            if made_of is not None:
                facts += f", made of {digest(made_of, prompt, str(item))}"
            tags = {"comment": facts, "software": "archijax", **({"title": prompt} if prompt else {})}
            output.write(names[number, item], sound, prompt or facts, tags, exact)
            total += len(sound) / output.sample_rate if seconds is None else seconds
            writing += time.perf_counter() - sampled
    took = time.perf_counter() - began - writing
    output.tell_clipped()
    cli.say(
        f"made {total:.1f} s of sound in {took:.1f} s, {total / took:.3g} times as fast as real time, after "
        f"{compiled:.1f} s of compilation; writing the files took {writing:.1f} s."
    )


def finished(generation: Generation, output: Output, made_of: str) -> set[tuple[int, int]]:
    """Returns a set of (number of the prompt, item) for the sounds that the same model has already made with the same
    settings. Prints the path of each such sound."""
    done = set()
    for (number, item), name in _names(generation).items():
        path = output.folder / f"{name}.wav"
        try:
            comment = files.info(path).tags.get("comment", "")
        except InputError:
            continue
        if comment.endswith(f"made of {digest(made_of, generation.prompts[number], str(item))}"):
            cli.say(f"{path} exists, made by the same model and settings: skipped.")
            done.add((number, item))
    return done


def _names(generation: Generation, stem: str | None = None) -> dict[tuple[int, int], str]:
    """Returns a dict that maps (number of the prompt, item) to the name of the file."""
    stems = slugs(generation.prompts) if stem is None else [stem] * len(generation.prompts)
    seed = generation.settings.seed
    return {(number, item): f"{stems[number]}_seed{seed}_{item:03d}" for number, item in generation.items}
