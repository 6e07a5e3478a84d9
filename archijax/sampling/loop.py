"""Contains the sampling loop: one ``jax.lax.scan`` over timesteps runs the steps of a sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.sampling.invariants import hoisted
from archijax.sampling.steps import DDIM, Denoise, Sampler


# JAX also builds a State of shapes or shardings, so its fields cannot be checked.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class State:
    """Holds the state that the sampling loop carries from step to step. :func:`begin` makes the first state.

    Attributes:
        x: the noisy sound [b, ...].
        x0: the estimate of x0 at the previous step. Before the first step, the field x0 equals x.
        t_last: the time of the previous step. Before the first step, t_last is the first timestep.
        keys: one key per item of the batch [b] if the sampler draws noise, and None otherwise.
    """

    x: Float[Array, " b *shape"]
    x0: Float[Array, " b *shape"]
    t_last: Float[Array, "*time"]
    keys: Key[Array, " b"] | None = None


def begin(
    x: Float[Array, " b *shape"],
    t: Float[Array | np.ndarray | np.number, "*time"] | float,
    keys: Key[Array, " b"] | None = None,
) -> State:
    """Returns the state before the first step, for :func:`advance`: ``begin(x, timesteps[0], keys)``.

    Args:
        x: the noisy sound at the first timestep.
        t: the first timestep.
        keys: one key per item, such as ``jax.random.split(key, b)``. Only samplers that draw noise need keys.
    """
    return State(x, x, jnp.asarray(t, _time_type(x)), keys)


def stepper(
    denoise: Denoise,
    process: GaussianProcess,
    state: State,
    sampler: Sampler = DDIM(),
    noise: Float[Array | jax.ShapeDtypeStruct, "draws b *shape"] | None = None,
) -> Partial:
    """Returns a function ``(state, (t, t_next, noise)) -> (state at t_next, estimate of x0 [b, ...] at t)`` that takes
    one step.

    Values that are the same in every step are computed only once, by ``stepper`` (see :func:`hoisted`). The times t and
    t_next have the shape and the type of ``state.t_last``.

    Args:
        denoise, process: see :func:`sample`.
        state: an example of the state, such as the first state. Only the shapes and types of the state matter.
        sampler: the sampler that takes the step, such as :class:`DDIM`.
        noise: an example of the argument ``noise`` of the returned function. If the example is None, ``noise`` must be
            None too, and each step draws noise from ``state.keys``.

    Raises:
        InputError: the sampler draws noise, but there are neither keys nor noise.
    """
    if sampler.draws and state.keys is None and noise is None:
        raise InputError(f"{type(sampler).__name__} draws noise at every step: pass keys, one per item")

    def step(state: State, inputs: tuple) -> tuple[State, Float[Array, " b *shape"]]:
        t, t_next, noise = inputs
        keys = state.keys
        if sampler.draws and noise is None:
            keys, noise = _draw(keys, sampler.draws, state.x)
        x, x0 = sampler.step(
            process, denoise, state.x, _each(t, state.x), _each(t_next, state.x),
            noise=noise, x0_last=state.x0, t_last=_each(state.t_last, state.x),
        )  # fmt: skip
        return State(x, x0, t, keys), x0

    return hoisted(step, state, (state.t_last, state.t_last, noise))


def advance(
    denoise: Denoise,
    process: GaussianProcess,
    state: State,
    timesteps: Float[Array | np.ndarray, " times *time"],
    sampler: Sampler = DDIM(),
    noise: Float[Array, "times-1 draws b *shape"] | None = None,
) -> tuple[State, Float[Array, "times-1 b *shape"]]:
    """Moves a state from the first timestep to the last timestep.

    Args:
        denoise, process: see :func:`sample`.
        state: the result of :func:`begin`, or the state that an earlier call returned.
        timesteps: descending diffusion times [times], or [times, time, 1] if each sample of the sound has its own
            times.
        sampler: the sampler that takes the steps, such as :class:`DDIM`.
        noise: standard normal noise for each step, or None to draw the noise from ``state.keys``.

    Returns:
        The tuple (the state at the last timestep, the estimates of x0 at all earlier timesteps [times - 1, b, ...]).

    Raises:
        InputError: the sampler draws noise, but there are neither keys nor noise.
    """
    timesteps = jnp.asarray(timesteps, _time_type(state.x))
    step_noise = None if noise is None else jax.ShapeDtypeStruct(noise.shape[1:], noise.dtype)
    step = stepper(denoise, process, state, sampler, step_noise)
    # A gradient through the loop stores only the states, and computes each step again.
    step = jax.checkpoint(step, prevent_cse=False)
    return jax.lax.scan(step, state, (timesteps[:-1], timesteps[1:], noise))


def sample(
    denoise: Denoise,
    process: GaussianProcess,
    x: Float[Array, " b *shape"],
    timesteps: Float[Array | np.ndarray, " times *time"],
    sampler: Sampler = DDIM(),
    keys: Key[Array, " b"] | None = None,
) -> Float[Array, " b *shape"]:
    """Turns noise into sound. The function is pure: it can be jitted, vmapped, pmapped and differentiated.

    Args:
        denoise: a function ``denoise(x, t)`` for x [b, ...] and t [b]. The function returns the net's prediction of the
            quantity ``process.prediction``, in the shape of x. :func:`guided` makes such a function with guidance.
        process: the diffusion process, such as ``archijax.v_diffusion()`` or ``model.process``.
        x: the noisy sound at the first timestep. If sampling starts from pure noise, x is sigma * noise.
        timesteps: descending diffusion times, such as ``process.timesteps(50)``.
        sampler: the sampler that takes the steps, such as :class:`DDIM`.
        keys: one key per item, such as ``jax.random.split(key, b)``. Only samplers that draw noise need keys.

    Returns:
        x at the last timestep, in the shape of the argument x. If the last timestep is 0, the result is sound.

    Raises:
        InputError: the sampler draws noise, but there are no keys.
    """
    return advance(denoise, process, begin(x, timesteps[0], keys), timesteps, sampler)[0].x


def _each(t: Float[Array | np.ndarray | np.number, "*time"], x: Float[Array, " b *shape"]) -> Float[Array, " b *time"]:
    """Repeats a time for every item of the batch: t [] becomes [b], and t [time, 1] becomes [b, time, 1]."""
    return jnp.broadcast_to(t, (x.shape[0], *jnp.shape(t)))


def _draw(
    keys: Key[Array, " b"], count: int, x: Float[Array, " b *shape"]
) -> tuple[Key[Array, " b"], Float[Array, "{count} b *shape"]]:
    """Returns (keys for the next step, noise for this step). The noise of item i depends on keys[i] alone."""
    pairs = jax.vmap(jax.random.split)(keys)
    shape = (count, *x.shape[1:])
    return pairs[:, 0], jax.vmap(lambda key: jax.random.normal(key, shape, x.dtype), out_axes=1)(pairs[:, 1])


def _time_type(x: Float[Array, "*shape"]) -> jnp.dtype:
    # Half precision rounds many timesteps to the same number.
    return x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
