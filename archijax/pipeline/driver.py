"""Runs the sampling loop. Values that are the same in every step are computed once. Steps are taken in chunks of up to
8.

Two compiled programs serve any number of steps: :func:`prepare` makes the first state, and :func:`advance` takes the
steps of a chunk.
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
from jaxtyping import Array, Bool, Float, Int, Key

from archijax.contract import Batch, DenoisingGenerator, Variables
from archijax.keys import step_keys
from archijax.pipeline.settings import SampleSettings
from archijax.sampling import State, begin, stepper

CHUNK = 8  # the largest number of steps in one call of the program
SECONDS = 0.5  # a call should not take longer, so that users see progress

Progress = Callable[[int], Any]
"""A function that is called with the number of steps that were taken since the last call."""


def silent(count: int) -> None:
    """Does nothing. This function is the default for arguments of the type `Progress`."""


@dataclass(frozen=True)
class Program:
    """Holds the static arguments of the compiled programs. Each new combination of values needs a compilation.

    Fields:
        model: a model such as :class:`archijax.DiffusionModel`.
        settings: the settings of sampling, such as ``SampleSettings().compiled``.
        window: the length in samples of the overlapping windows that the net sees; None: the net sees the whole sound.
        circular: whether a window can contain the end and the beginning of a sound. The sound can then loop.
        num_resamples: how often each step is taken if there is a mask, at least 1.
    """

    model: DenoisingGenerator
    settings: SampleSettings
    window: int | None = None
    circular: bool = False
    num_resamples: int = 1


class Inputs(NamedTuple):
    """Holds the arrays that are the inputs of sampling.

    Attributes:
        noise: the noise from which sampling starts.
        batch: the conditioning of the model, such as tokens.
        keys: one JAX key per item, for samplers that draw noise.
        scale: the guidance scale; None: no guidance.
        negative: the conditioning that guidance uses for the negative prompt; None: guidance uses the prediction
            without a prompt.
        source: the sound to which noise is added; None: sampling starts from noise alone.
        kept: (a source, a mask). The mask is True for the samples of the source to keep. None: no sample is kept.
    """

    noise: Float[Array, "b time c"]
    batch: Batch
    keys: Key[Array, " b"] | None = None
    scale: Float[Array | np.number, ""] | None = None
    negative: Batch | None = None
    source: Float[Array, "b time c"] | None = None
    kept: tuple[Float[Array, "b time c"], Bool[Array, "time 1"]] | None = None


@partial(jax.jit, static_argnums=0)
def prepare(
    program: Program, variables: Variables, inputs: Inputs, t: Float[Array | np.number, ""]
) -> tuple[State, Partial]:
    """Returns (the first state, a function that takes one step), where t is the first timestep.
    :func:`archijax.sampling.stepper` explains the function."""
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
def advance(step: Partial, state: State, timesteps: Float[Array, " n"], count: Int[Array, ""]) -> State:
    """Takes ``count`` steps over the first ``count + 1`` timesteps, and returns the new state. :func:`prepare` makes
    ``step`` and the first ``state``."""
    return jax.lax.fori_loop(0, count, lambda i, state: step(state, (timesteps[i], timesteps[i + 1], None))[0], state)


def compile_for(program: Program, variables: Variables, inputs: Inputs) -> float:
    """Compiles the programs for the shapes of ``inputs``, unless they are already compiled. Returns the seconds that
    the compilation took."""
    began = time.perf_counter()
    state, step = prepare(program, variables, inputs, np.float32(1))
    advance.lower(step, state, np.zeros(CHUNK + 1, np.float32), np.int32(1)).compile()
    return time.perf_counter() - began


def run(
    program: Program,
    variables: Variables,
    inputs: Inputs,
    timesteps: Float[np.ndarray, " n"],
    progress: Progress = silent,
) -> Float[Array, "b time c"]:
    """Takes ``n - 1`` sampling steps over the n timesteps, and returns the sounds. The sounds are not clipped.

    The number of steps in a chunk adapts to the time that a chunk takes. The sounds do not depend on the size of the
    chunks. ``model.process.timesteps(n - 1)`` returns suitable timesteps.
    """
    state, step = prepare(program, variables, inputs, timesteps[0])
    done, size, waiting, began = 0, 1, 0, time.perf_counter()
    while done < len(timesteps) - 1:
        chunk = timesteps[done : done + size + 1]
        count = len(chunk) - 1
        before, state = state, advance(step, state, np.pad(chunk, (0, CHUNK - count)), np.int32(count))
        # The host waits for the previous chunk, so that the device always has a chunk to compute.
        before.x.block_until_ready()
        progress(waiting)
        now = time.perf_counter()
        size = min(2 * size, CHUNK) if now - began < SECONDS else max(size // 2, 1)
        done, waiting, began = done + count, count, now
    state.x.block_until_ready()
    progress(waiting)
    return state.x[:, : inputs.noise.shape[1]]
