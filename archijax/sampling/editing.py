"""Editing sounds with a model that was trained to make them: filling gaps, continuing, interpolating."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.sampling.steps import DDIM, Sampler, renoised


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Inpaint:
    """A sampler that fills the part of a sound that the mask does not keep, with another sampler.

    After every step the kept part is replaced by the source, noised to the step's level; at the end it is the source
    itself. With num_resamples above 1 each step is taken so often, going back to its noise level in between, so that
    both parts come to agree (Lugmayr et al. 2022, RePaint, algorithm 1).

    The original's resampling goes back with the kept part alone and leaves the rest as it was. All but its last two
    passes thus come to nothing, and two of them are `redraw` here, at the price of one.

    Fields:
        source: [b, time, c]; what is not kept does not matter.
        mask: bool, True where the source is kept; broadcasts against it.
        sampler: makes the steps.
        num_resamples: at least 1.
        redraw: noise the kept part anew before each step too: the original's resampling.
    """

    source: jax.Array
    mask: jax.Array
    sampler: Sampler = field(default=DDIM(), metadata={"static": True})
    num_resamples: int = field(default=1, metadata={"static": True})
    redraw: bool = field(default=False, metadata={"static": True})

    def __post_init__(self):
        if self.num_resamples < 1:
            raise InputError(f"the number of resamples is {self.num_resamples}: it must be at least 1")

    @property
    def draws(self) -> int:
        """For each time that a step is taken: the sampler's, the source's (before and) after it, and to go back."""
        return self.num_resamples * (self.sampler.draws + self.redraw + 1 + (self.num_resamples > 1))

    def step(self, process, denoise, x, t, t_next, *, noise=None, x0_last=None, t_last=None):
        own = self.sampler.draws

        def once(x, noise):
            noise, (*before, after), back = jnp.split(noise, [own, own + self.redraw + 1])
            if self.redraw:
                x = jnp.where(self.mask, process.add_noise(self.source, before[0], t), x)
            reached, x0 = self.sampler.step(process, denoise, x, t, t_next, noise=noise, x0_last=x0_last, t_last=t_last)
            reached = jnp.where(self.mask, process.add_noise(self.source, after, t_next), reached)
            if self.num_resamples > 1:
                x = renoised(process, reached, t, t_next, back[0])
            return x, (reached, x0)

        if self.num_resamples == 1:
            return once(x, noise)[1]
        noise = noise.reshape(self.num_resamples, -1, *x.shape)
        _, (reached, x0) = jax.lax.scan(once, x, noise)
        return reached[-1], x0[-1]


def slerp(a: jax.Array, b: jax.Array, weight: float | jax.Array) -> jax.Array:
    """Spherical interpolation, item by item: weight 0 gives a, 1 gives b (Shoemake 1985).

    Between two noises it is noise again, of the same level, where a straight mean would be too quiet. Between two
    sounds: turn both into noise by :class:`DDIM` over ascending times, interpolate, and sample. Between two prompts:
    interpolate their embeddings.

    Args:
        a, b: [b, ...].
        weight: a number, or one per item [b].
    """
    if a.shape != b.shape:
        raise InputError(f"cannot interpolate between shapes {a.shape} and {b.shape}: they must be equal")
    axes = tuple(range(1, a.ndim))
    weight = jnp.asarray(weight, a.dtype)
    weight = weight.reshape(-1, *(1,) * (a.ndim - 1)) if weight.ndim else weight
    norms = jnp.sqrt(jnp.sum(a * a, axis=axes, keepdims=True) * jnp.sum(b * b, axis=axes, keepdims=True))
    cosine = jnp.sum(a * b, axis=axes, keepdims=True) / jnp.maximum(norms, 1e-20)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    # Of parallel vectors no plane is known: the straight line then.
    parallel = sine < 1e-4
    sine = jnp.where(parallel, 1, sine)
    first = jnp.where(parallel, 1 - weight, jnp.sin((1 - weight) * angle) / sine)
    second = jnp.where(parallel, weight, jnp.sin(weight * angle) / sine)
    return first * a + second * b


def check_source(source: Any, strength: float, mask: Any, shape: tuple[int, ...]) -> None:
    """Raises InputError unless a source, its strength and its mask say together what is to be done."""
    if source is None and (mask is not None or strength != 1):
        what = "a mask says what is kept" if mask is not None else f"strength {strength} says how much is changed"
        raise InputError(f"{what} of a source, but there is no source: give both or neither")
    if source is not None and mask is None and strength == 1:
        raise InputError("a source with strength 1 and no mask would not be heard: give a strength below 1 or a mask")
    if source is not None and source.shape != shape:
        raise InputError(f"the source has shape {source.shape}: {shape} is needed")
