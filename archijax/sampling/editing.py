"""Edits sounds with a generative model: the functions fill gaps, continue sounds, and interpolate between sounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from archijax.diffusion import GaussianProcess
from archijax.errors import InputError
from archijax.sampling.steps import DDIM, Denoise, Sampler, renoised


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Inpaint:
    """Keeps the source where the mask is True, and fills the rest by the steps of another sampler.

    ``sample(denoise, process, x, timesteps, Inpaint(source, mask), keys)`` uses this sampler. ``model.sample(...,
    source=source, mask=mask)`` creates and uses such a sampler.

    Where the mask is True, the source replaces x after each step, with noise of the level at t_next. At time 0, the
    source has no noise. If num_resamples is above 1, every step is repeated: noise is added to move x from t_next back
    to t, and the step is taken again. The repetition makes the new samples agree with the kept samples (Lugmayr et al.
    2022, RePaint, algorithm 1).

    When the original code (audio-diffusion-pytorch) repeats a step, only the kept samples receive noise. To get the
    result of the original code, set num_resamples=1 and redraw=True.

    Fields:
        source: the sound to edit [b, time, c]. Only the samples where the mask is True are used.
        mask: a bool array that is True where the source is kept. The mask broadcasts against the source.
        sampler: the sampler that takes the steps, such as ``DDIM()``.
        num_resamples: how often each step is taken, at least 1.
        redraw: whether the source with new noise replaces the kept samples before each step, too, as in the original
            code.

    Raises:
        InputError: num_resamples is below 1.
    """

    source: Float[Array, "b time c"]
    mask: Bool[Array, "*mask"]
    sampler: Sampler = field(default=DDIM(), metadata={"static": True})
    num_resamples: int = field(default=1, metadata={"static": True})
    redraw: bool = field(default=False, metadata={"static": True})

    def __post_init__(self):
        if self.num_resamples < 1:
            raise InputError(f"the number of resamples is {self.num_resamples}: it must be at least 1")

    @property
    def draws(self) -> int:
        """Returns the number of noise arrays that a step uses, each in the shape of x. Each of the num_resamples passes
        needs noise for the step of the sampler, for the source, and for the return from t_next to t.
        """
        return self.num_resamples * (self.sampler.draws + self.redraw + 1 + (self.num_resamples > 1))

    def step(
        self,
        process: GaussianProcess,
        denoise: Denoise,
        x: Float[Array, " b *shape"],
        t: Float[Array, " b *time"],
        t_next: Float[Array, " b *time"],
        *,
        noise: Float[Array, "draws b *shape"] | None = None,
        x0_last: Float[Array, " b *shape"] | None = None,
        t_last: Float[Array, " b *time"] | None = None,
    ) -> tuple[Float[Array, " b *shape"], Float[Array, " b *shape"]]:
        """Moves x from time t to time t_next. Returns (x at t_next, the estimate of x0 at t), both in the shape of x.

        ``denoise(x, t)`` returns the net's prediction of the quantity ``process.prediction``. The argument noise must
        be standard normal noise [self.draws, b, ...]. :meth:`Sampler.step` explains all arguments.
        """
        draws = self.sampler.draws

        def one_pass(x, noise):
            noise, (*before, after), back = jnp.split(noise, [draws, draws + self.redraw + 1])
            if self.redraw:
                x = jnp.where(self.mask, process.add_noise(self.source, before[0], t), x)
            x_next, x0 = self.sampler.step(process, denoise, x, t, t_next, noise=noise, x0_last=x0_last, t_last=t_last)
            x_next = jnp.where(self.mask, process.add_noise(self.source, after, t_next), x_next)
            if self.num_resamples > 1:
                x = renoised(process, x_next, t, t_next, back[0])
            return x, (x_next, x0)

        if self.num_resamples == 1:
            return one_pass(x, noise)[1]
        noise = noise.reshape(self.num_resamples, -1, *x.shape)
        _, (x_next, x0) = jax.lax.scan(one_pass, x, noise)
        return x_next[-1], x0[-1]


def slerp(
    a: Float[Array, " b *shape"],
    b: Float[Array, " b *shape"],
    weight: float | Float[Array | np.ndarray | np.number, ""] | Float[Array | np.ndarray, " b"],
) -> Float[Array, " b *shape"]:
    """Interpolates between a and b spherically, for each item of the batch (Shoemake 1985). The result has the shape of
    a.

    If a and b are noise, the result is noise of the same level. The mean of a and b would be too quiet. To interpolate
    between two sounds, turn both into noise by :class:`DDIM` over ascending times, interpolate between the noises, and
    sample from the result. To interpolate between two prompts, interpolate between the embeddings of the prompts.

    Args:
        weight: from 0 (the result is a) to 1 (the result is b), one weight for all items or one weight per item [b].

    Raises:
        InputError: a and b have different shapes.
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
    # Parallel vectors span no plane: interpolate on a straight line.
    parallel = sine < 1e-4
    sine = jnp.where(parallel, 1, sine)
    first = jnp.where(parallel, 1 - weight, jnp.sin((1 - weight) * angle) / sine)
    second = jnp.where(parallel, weight, jnp.sin(weight * angle) / sine)
    return first * a + second * b


def check_source(
    source: Array | np.ndarray | None, strength: float, mask: Array | np.ndarray | None, shape: tuple[int, ...]
) -> None:
    """Raises InputError if source, strength and mask do not fit each other, or if the source does not have the shape
    ``shape``. A mask or a strength below 1 needs a source. A source needs a mask or a strength below 1.
    """
    if source is None and (mask is not None or strength != 1):
        setting = "a mask" if mask is not None else f"strength {strength}"
        raise InputError(f"{setting} needs a source, but there is none: pass a source too")
    if source is not None and mask is None and strength == 1:
        raise InputError("a source has no effect with strength 1 and no mask: pass a strength below 1 or a mask")
    if source is not None and source.shape != shape:
        raise InputError(f"the source has shape {source.shape}: {shape} is needed")


def full_mask(mask: Array | np.ndarray, source: Array | np.ndarray) -> Bool[Array, "b time c"]:
    """Broadcasts a mask to the shape of the source. Raises InputError if the mask is not bool or does not broadcast."""
    mask = jnp.asarray(mask)
    fits = all(size in (1, needed) for size, needed in zip(mask.shape[::-1], source.shape[::-1], strict=False))
    if mask.dtype != bool or mask.ndim > source.ndim or not fits:
        raise InputError(
            f"the mask is {mask.dtype} of shape {mask.shape}: bool that broadcasts against the source's "
            f"{source.shape} is needed, such as {(source.shape[1], 1)}"
        )
    return jnp.broadcast_to(mask, source.shape)
