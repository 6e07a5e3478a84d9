"""Endless sound: autoregressive v-diffusion, in which every split of the sound has a noise level of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.diffusion import BetaSchedule, GaussianProcess, v_diffusion
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.nn.initialize import initialize
from archijax.sampling import advance, begin


@dataclass(frozen=True, eq=False)
class DiffusionAR:
    """Autoregressive diffusion, after audio-diffusion-pytorch: trained with random noise levels, one for each split.

    It samples with a ladder of levels, low at the beginning and high at the end, that moves on by a split at a time.

    Fields:
        net: a module ``net(x, append_channels=[b, time, 1], **conditioning)`` without time conditioning, such as
            ``AppendChannels(UNetV0(..., use_time_conditioning=False, use_modulation=False))``: the noise level is a
            channel.
        length: samples that the net sees, a multiple of num_splits.
        num_splits: an even number; the first half is context, the second half the ladder.
        process: the diffusion method, one of continuous times that predicts "v" or "velocity": others say nothing of
            the noise in the context, which has none.
    """

    net: nn.Module
    length: int
    num_splits: int
    process: GaussianProcess = field(default_factory=v_diffusion)

    def __post_init__(self):
        if self.num_splits < 2 or self.num_splits % 2:
            raise InputError(f"the number of splits is {self.num_splits}: it must be even, half of them are context")
        if self.process.prediction not in ("v", "velocity") or isinstance(self.process.schedule, BetaSchedule):
            raise InputError(
                f'the process predicts "{self.process.prediction}" with {type(self.process.schedule).__name__}: '
                "v-diffusion or a rectified flow is needed"
            )
        if self.length < 1 or self.length % self.num_splits:
            raise InputError(f"the length is {self.length}: it must be a multiple of the {self.num_splits} splits")

    @property
    def split_length(self) -> int:
        """Samples of a split."""
        return self.length // self.num_splits

    def init(self, key: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """Variables for batches like this one: "audio" [b, length, c] and what else the net takes."""
        audio, conditioning = self._parts(batch)
        sigma = jnp.zeros((*audio.shape[:2], 1))
        init = lambda key, *args: self.net.init(key, args[0], append_channels=args[1], **args[2])  # noqa: E731
        return {"params": {"net": initialize(init, key, audio, sigma, conditioning)["params"]}, "frozen": {}}

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """Mean squared error of the prediction; keys [b], or a single key. Returns (loss, (metrics, new_state))."""
        t, eps = self.draw(per_item(keys, len(batch["audio"])), batch["audio"].shape[1:])
        return self.loss_given(variables, batch, t, eps), ({}, {})

    def draw(self, keys: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """What a loss draws for items with keys [b] and shape [length, c]: times [b, splits] and noise."""

        def one(key):
            t_key, eps_key = jax.random.split(key)
            return jax.random.uniform(t_key, (self.num_splits,)), jax.random.normal(eps_key, shape)

        u, eps = jax.vmap(one)(keys)
        return self.process.training.quantile(u), eps

    def loss_given(
        self, variables: dict[str, Any], batch: dict[str, jax.Array], t: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """The loss as a function of its draws: times t [b, splits] and noise eps [b, length, c]."""
        audio, conditioning = self._parts(batch)
        t = jnp.repeat(t, self.split_length, axis=1)[..., None]
        prediction = self._denoise(variables, conditioning)(self.process.add_noise(audio, eps, t), t)
        error = prediction.astype(jnp.float32) - self.process.target(audio, eps, t).astype(jnp.float32)
        return jnp.mean(jnp.square(error))

    def sample(
        self,
        variables: dict[str, Any],
        keys: jax.Array,
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        **conditioning: jax.Array,
    ) -> jax.Array:
        """Sounds [b, time, c] of a shape, of any time.

        For sound without an end call :meth:`start` and then :meth:`shift` again and again: memory stays the same.

        Args:
            keys: one per item [b], or a single key.
            num_steps: denoising steps of the start. A split after it takes about half as many on its way through the
                ladder, num_steps // num_splits in each shift.
        """
        count, time, channels = shape
        keys = per_item(keys, count)
        num_chunks = max(ceil_div(time, self.split_length), self.num_splits)
        noises = jax.vmap(lambda number: self.noise(keys, 2 + number, self.split_length, channels))
        start, ladder = (self.noise(keys, number, self.length, channels) for number in range(2))
        sounds = self.sample_given(
            variables, start, ladder, noises(jnp.arange(num_chunks)), num_steps=num_steps, **conditioning
        )
        return sounds[:, :time]

    def noise(self, keys: jax.Array, number: jax.Array | int, time: int, channels: int) -> jax.Array:
        """A draw [b, time, channels] for items with keys [b]: 0 the start, 1 the ladder, 2 on the splits after it."""
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), (time, channels)))(keys)

    def sample_given(
        self,
        variables: dict[str, Any],
        noise: jax.Array,
        ladder_noise: jax.Array,
        fresh: jax.Array,
        *,
        num_steps: int,
        **conditioning: jax.Array,
    ) -> jax.Array:
        """:meth:`sample` as a function of its draws.

        Args:
            noise: what the start is made from, [b, length, c].
            ladder_noise: what the start is noised with up to the ladder, [b, length, c].
            fresh: the noise of the splits that follow, one after each shift, [num_chunks, b, split_length, c]; the last
                half of num_splits and one more are not used.
        """
        num_chunks, half = len(fresh), self.num_splits // 2
        if num_chunks < self.num_splits:
            raise InputError(f"{num_chunks} chunks are asked for: at least the {self.num_splits} splits are needed")
        window = self.start(variables, noise, num_steps=num_steps, **conditioning)
        if num_chunks == self.num_splits:
            return window
        first = window[:, : half * self.split_length]
        window = self.noised_to_ladder(window, ladder_noise, num_steps=num_steps)

        def step(window, noise):
            return self.shift(variables, window, noise, num_steps=num_steps, **conditioning)

        _, chunks = jax.lax.scan(step, window, fresh[: num_chunks - half])
        rest = jnp.moveaxis(chunks, 0, 1).reshape(len(noise), -1, noise.shape[-1])
        return jnp.concatenate([first, rest], axis=1)

    def start(
        self, variables: dict[str, Any], noise: jax.Array, *, num_steps: int, **conditioning: jax.Array
    ) -> jax.Array:
        """The first sound [b, length, c] from noise, all splits at one noise level."""
        timesteps = jnp.asarray(self.process.timesteps(num_steps))
        timesteps = jnp.broadcast_to(timesteps[:, None, None], (num_steps + 1, self.length, 1))
        x = self.process.alpha_sigma(timesteps[:1, 0], noise)[1] * noise
        return self._advanced(variables, x, timesteps, conditioning)

    def noised_to_ladder(self, sounds: jax.Array, noise: jax.Array, *, num_steps: int) -> jax.Array:
        """Sounds [b, length, c] noised to the ladder's first levels: what :meth:`shift` goes on from."""
        return self.process.add_noise(sounds, noise, jnp.asarray(self.ladder(num_steps)[0])[None])

    def shift(
        self,
        variables: dict[str, Any],
        window: jax.Array,
        fresh: jax.Array,
        *,
        num_steps: int,
        **conditioning: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Moves the ladder on by a split.

        Args:
            window: [b, length, c] at the ladder's first levels.
            fresh: noise [b, split_length, c], the new last split.

        Returns:
            (the window after it, a finished split [b, split_length, c]).
        """
        window = self._advanced(variables, window, jnp.asarray(self.ladder(num_steps)), conditioning)
        middle = self.length // 2
        done = window[:, middle : middle + self.split_length]
        return jnp.concatenate([window[:, self.split_length :], fresh], axis=1), done

    def ladder(self, num_steps: int) -> np.ndarray:
        """Times [num_steps // num_splits + 1, length, 1] of one shift; at its end split i is where i - 1 began."""
        steps, half = num_steps // self.num_splits, self.num_splits // 2
        if steps < 1:
            raise InputError(f"the number of steps is {num_steps}: at least the {self.num_splits} splits are needed")
        rungs = np.linspace(self.process.schedule.start, 0, steps * half, dtype=np.float32)
        rungs = rungs.reshape(half, steps)[::-1].T  # [steps, half], the lowest noise first
        after = np.concatenate([[0], rungs[0, :-1]]).astype(np.float32)
        rungs = np.concatenate([rungs, after[None]])
        context = np.zeros_like(rungs)
        return np.repeat(np.concatenate([context, rungs], axis=1), self.split_length, axis=1)[..., None]

    def _advanced(self, variables: dict[str, Any], x: jax.Array, timesteps: jax.Array, conditioning: dict) -> jax.Array:
        denoise = self._denoise(variables, conditioning)
        return advance(denoise, self.process, begin(x, timesteps[0]), timesteps)[0].x

    def _denoise(self, variables: dict[str, Any], conditioning: dict):
        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            x, time = self.process.net_input(x, t)
            return self.net.apply({"params": variables["params"]["net"]}, x, append_channels=time, **conditioning)

        return denoise

    def _parts(self, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        audio = jnp.asarray(batch["audio"], jnp.float32)
        if audio.shape[1] != self.length:
            raise InputError(f"the sounds have {audio.shape[1]} samples: the model's {self.length} are needed")
        return audio, {name: value for name, value in batch.items() if name != "audio"}
