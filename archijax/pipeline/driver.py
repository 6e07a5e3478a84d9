"""The driver of sampling: what no step changes is computed once, then the steps are taken in chunks.

Every number of steps runs the same two programs: :func:`prepare` and a loop over the steps of a chunk, whose number is
an argument of the program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from archijax.contract import Batch, DenoisingGenerator, Variables
from archijax.keys import step_keys
from archijax.pipeline.settings import SampleSettings
from archijax.sampling import State, begin, stepper

CHUNK = 8  # steps that the program takes in one call, at most
SECONDS = 0.5  # that a call may take, so that progress shows

Progress = Callable[[int], Any]
"""Called with the number of steps that were taken since the last call."""


def silent(count: int) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Program:
    """What is compiled for, beside shapes.

    Fields:
        model: the model.
        settings: of the sampling, as :attr:`SampleSettings.compiled`.
        window: samples that the net sees at once, or None for all.
        circular: the sound goes on at its beginning.
        num_resamples: how often a step that keeps a part of a source is taken.
    """

    model: DenoisingGenerator
    settings: SampleSettings
    window: int | None = None
    circular: bool = False
    num_resamples: int = 1


class Inputs(NamedTuple):
    """What a batch of sounds is sampled from; None where there is nothing.

    Attributes:
        noise: [b, time, c].
        batch: what the model is conditioned on, such as tokens.
        keys: one per item [b], for samplers that draw noise.
        scale: of guidance.
        negative: a batch to guide away from, instead of from no prompt.
        source: [b, time, c], what is taken to noise and changed.
        kept: (source [b, time, c], mask [time, 1], True where it is kept).
    """

    noise: jax.Array
    batch: Batch
    keys: jax.Array | None = None
    scale: jax.Array | None = None
    negative: Batch | None = None
    source: jax.Array | None = None
    kept: tuple[jax.Array, jax.Array] | None = None


@partial(jax.jit, static_argnums=0)
def prepare(program: Program, variables: Variables, inputs: Inputs, t: jax.Array) -> tuple[State, Partial]:
    """(the state at the first time t, one step as :func:`archijax.sampling.stepper` makes it)."""
    model, settings = program.model, program.settings
    keys = None if inputs.keys is None else step_keys(inputs.keys)
    x = model.start(jax.random.key(0), inputs.noise.shape, t, noise=inputs.noise, source=inputs.source)
    state, guidance, negative, sampler = begin(x, t, keys), 1.0, None, settings.make_sampler()
    if inputs.scale is not None:
        guidance = settings.guidance(inputs.scale)
    if inputs.negative is not None:
        negative = model.conditioning(variables, inputs.negative)
    denoise = model.denoiser(
        variables, guidance=guidance, negative=negative, clamp=settings.clamp, threshold=settings.threshold,
        window=program.window, circular=program.circular, **model.conditioning(variables, inputs.batch),
    )  # fmt: skip
    if inputs.kept is not None:
        sampler = model.inpainting(*inputs.kept, sampler, program.num_resamples)
    return state, stepper(denoise, model.process, state, sampler)


@jax.jit
def advance(step: Partial, state: State, timesteps: jax.Array, count: jax.Array) -> State:
    """The state after count steps over timesteps [at least count + 1]."""
    return jax.lax.fori_loop(0, count, lambda i, state: step(state, (timesteps[i], timesteps[i + 1], None))[0], state)


def compile_for(program: Program, variables: Variables, inputs: Inputs) -> float:
    """Compiles for inputs of these shapes unless that was done before; returns the seconds that it took."""
    began = time.perf_counter()
    state, step = prepare(program, variables, inputs, np.float32(1))
    advance.lower(step, state, np.zeros(CHUNK + 1, np.float32), np.int32(1)).compile()
    return time.perf_counter() - began


def run(
    program: Program, variables: Variables, inputs: Inputs, timesteps: np.ndarray, progress: Progress = silent
) -> jax.Array:
    """Sounds [b, time, c] from noise by steps over timesteps [n + 1], not clipped.

    Chunks become longer as long as they take little time; the sounds do not depend on them.
    """
    state, step = prepare(program, variables, inputs, timesteps[0])
    done, size, waiting, began = 0, 1, 0, time.perf_counter()
    while done < len(timesteps) - 1:
        chunk = timesteps[done : done + size + 1]
        count = len(chunk) - 1
        before, state = state, advance(step, state, np.pad(chunk, (0, CHUNK - count)), np.int32(count))
        # One chunk late: while the host waits, the device has this chunk to work on.
        before.x.block_until_ready()
        progress(waiting)
        now = time.perf_counter()
        size = min(2 * size, CHUNK) if now - began < SECONDS else max(size // 2, 1)
        done, waiting, began = done + count, count, now
    state.x.block_until_ready()
    progress(waiting)
    return state.x[:, : inputs.noise.shape[1]]
