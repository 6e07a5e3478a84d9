"""The loop that samples: one scan of a sampler's steps over timesteps."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.sampling.invariants import hoisted
from archijax.sampling.steps import DDIM, Denoise, Sampler


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class State:
    """What sampling carries from step to step.

    Attributes:
        x: the noisy sound [b, ...].
        x0: the estimate of the sound made at the step before, [b, ...]; x itself before the first step, which lies on
            the devices as the estimates will.
        t_last: the time of that step, as times are; the first time itself before the first step.
        keys: one key per item [b], for samplers that draw noise; else None.
    """

    x: jax.Array
    x0: jax.Array
    t_last: jax.Array
    keys: jax.Array | None = None


def begin(x: jax.Array, t: jax.Array, keys: jax.Array | None = None) -> State:
    """The state before the first step, from x [b, ...] at the first time t; keys [b] if the sampler draws noise."""
    return State(x, x, jnp.asarray(t, _time_type(x)), keys)


def stepper(
    denoise: Denoise,
    process: GaussianProcess,
    state: State,
    sampler: Sampler = DDIM(),
    noise: jax.Array | jax.ShapeDtypeStruct | None = None,
) -> Partial:
    """One step as a function (state, (t, t_next, noise)) -> (state at t_next, estimate of x0 [b, ...] at t).

    What no step changes is computed here, see :func:`hoisted`.

    Args:
        state, noise: such as the steps will get; their values do not matter. Noise is [sampler.draws, b, ...], or None:
            then the state's keys draw it.
    """
    if sampler.draws and state.keys is None and noise is None:
        raise InputError(f"{type(sampler).__name__} draws noise at every step: give keys, one per item")

    def step(state: State, inputs: tuple) -> tuple[State, jax.Array]:
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
    timesteps: jax.Array,
    sampler: Sampler = DDIM(),
    noise: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    """Steps over timesteps [n + 1] (or [n + 1, time, 1], times of their own along the sound), descending.

    Args:
        noise: [n, sampler.draws, b, ...], instead of what the state's keys draw.

    Returns:
        (the state at the last time, the estimates of x0 [n, b, ...] made at the times before it).
    """
    timesteps = jnp.asarray(timesteps, _time_type(state.x))
    one = None if noise is None else jax.ShapeDtypeStruct(noise.shape[1:], noise.dtype)
    step = stepper(denoise, process, state, sampler, one)
    # A gradient through the loop keeps the states alone, and computes each step again.
    step = jax.checkpoint(step, prevent_cse=False)
    return jax.lax.scan(step, state, (timesteps[:-1], timesteps[1:], noise))


def sample(
    denoise: Denoise,
    process: GaussianProcess,
    x: jax.Array,
    timesteps: jax.Array,
    sampler: Sampler = DDIM(),
    keys: jax.Array | None = None,
) -> jax.Array:
    """Sound from noise. Pure: jit, vmap, pmap and differentiate it.

    Args:
        denoise: (x [b, ...], t [b]) -> the prediction that the process names; wrap it for guidance.
        x: the state at the first time, [b, ...]; at the beginning sigma * noise.
        timesteps: descending, [steps + 1].
        keys: one per item [b], for samplers that draw noise.

    Returns:
        x at the last time, [b, ...].
    """
    return advance(denoise, process, begin(x, timesteps[0], keys), timesteps, sampler)[0].x


def _each(t: jax.Array, x: jax.Array) -> jax.Array:
    """A time for every item: t [] becomes [b], t [time, 1] becomes [b, time, 1]."""
    return jnp.broadcast_to(t, (x.shape[0], *jnp.shape(t)))


def _draw(keys: jax.Array, count: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(the keys for the steps after this [b], noise [count, b, ...], item i's from its own key alone)."""
    pairs = jax.vmap(jax.random.split)(keys)
    shape = (count, *x.shape[1:])
    return pairs[:, 0], jax.vmap(lambda key: jax.random.normal(key, shape, x.dtype), out_axes=1)(pairs[:, 1])


def _time_type(x: jax.Array) -> jnp.dtype:
    # Half precision does not hold as many different times.
    return x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
