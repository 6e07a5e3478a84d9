"""Contains the model of autoregressive diffusion, which generates endless sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key

from archijax.arithmetic import ceil_div
from archijax.contract import Batch, LossResult, Variables
from archijax.diffusion import BetaSchedule, GaussianProcess, v_diffusion
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.nn.initialize import initialize
from archijax.sampling import Denoise, advance, begin

Sound = Float[Array, "b time c"]


@dataclass(frozen=True, eq=False)
class DiffusionAR:
    """A model of endless sound: autoregressive diffusion, as in audio-diffusion-pytorch.

    The net sees a window of the sound. The window consists of splits of equal length, and each split has its own noise
    level. Training draws these noise levels at random. In sampling, the second half of the window is the ladder: its
    noise level rises from split to split. Each call of :meth:`shift` moves the window forward by one split.

    Fields:
        net: a module ``net(x, append_channels=[b, time, 1], **conditioning)`` without time conditioning, such as
            ``AppendChannels(UNetV0(..., use_time_conditioning=False, use_modulation=False))``. The appended channel
            contains the diffusion time of each sample.
        length: the number of samples of the window, a multiple of num_splits.
        num_splits: the number of splits of the window, an even number. The first half of the splits is context without
            noise, and the second half is the ladder.
        process: the diffusion process, with continuous times and the prediction "v" or "velocity", such as
            ``archijax.v_diffusion()``. Other predictions are undefined where there is no noise, as in the first half of
            the window.

    Raises:
        InputError: num_splits is odd or does not divide length, or the process has discrete times or a wrong
            prediction.
    """

    net: nn.Module
    length: int
    num_splits: int
    process: GaussianProcess = field(default_factory=v_diffusion)

    def __post_init__(self):
        if self.num_splits < 2 or self.num_splits % 2:
            raise InputError(
                f"the number of splits is {self.num_splits}: it must be even, because half of the splits are context"
            )
        if self.process.prediction not in ("v", "velocity") or isinstance(self.process.schedule, BetaSchedule):
            raise InputError(
                f'the process predicts "{self.process.prediction}" with {type(self.process.schedule).__name__}: '
                "v-diffusion or a rectified flow is needed"
            )
        if self.length < 1 or self.length % self.num_splits:
            raise InputError(f"the length is {self.length}: it must be a multiple of the {self.num_splits} splits")

    @property
    def split_length(self) -> int:
        """The number of samples of each split."""
        return self.length // self.num_splits

    def init(self, key: Key[Array, ""], batch: Batch) -> Variables:
        """Returns initial variables. ``batch`` is a dict with "audio" [b, length, c] and the net's conditioning by
        name. Only the shapes in ``batch`` matter, and one item (b = 1) is enough.
        """
        audio, conditioning = self._split(batch)
        sigma = jnp.zeros((*audio.shape[:2], 1))
        init = lambda key, *args: self.net.init(key, args[0], append_channels=args[1], **args[2])  # noqa: E731
        return {"params": {"net": initialize(init, key, audio, sigma, conditioning)["params"]}, "frozen": {}}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Returns (loss, ({}, {})), where the loss is the mean squared error of the net's predictions.

        ``batch`` has "audio" [b, length, c]. ``keys`` are one key per item of the batch [b], or a single key.
        """
        t, eps = self.draw(per_item(keys, len(batch["audio"])), batch["audio"].shape[1:])
        return self.loss_given(variables, batch, t, eps), ({}, {})

    def draw(
        self, keys: Key[Array, " b"], shape: tuple[int, ...]
    ) -> tuple[Float[Array, "b {self.num_splits}"], Float[Array, "b {shape[0]} {shape[1]}"]]:
        """Draws (times [b, num_splits], noise [b, length, c]) for :meth:`loss_given`. ``shape`` is (length, c)."""

        def one(key: Key[Array, ""]) -> tuple[Array, Array]:
            t_key, eps_key = jax.random.split(key)
            return jax.random.uniform(t_key, (self.num_splits,)), jax.random.normal(eps_key, shape)

        u, eps = jax.vmap(one)(keys)
        return self.process.training.quantile(u), eps

    def loss_given(
        self, variables: Variables, batch: Batch, t: Float[Array, "b splits"], eps: Sound
    ) -> Float[Array, ""]:
        """Computes the loss for given times t of the splits and given noise eps."""
        audio, conditioning = self._split(batch)
        t = jnp.repeat(t, self.split_length, axis=1)[..., None]
        prediction = self._denoise(variables, conditioning)(self.process.add_noise(audio, eps, t), t)
        error = prediction.astype(jnp.float32) - self.process.target(audio, eps, t).astype(jnp.float32)
        return jnp.mean(jnp.square(error))

    def sample(
        self,
        variables: Variables,
        keys: Key[Array, " ..."],
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        **conditioning: Array,
    ) -> Float[Array, "{shape[0]} {shape[1]} {shape[2]}"]:
        """Generates new sounds of any length.

        For endless sound in constant memory, call :meth:`start` once, then :meth:`noised_to_ladder`, then :meth:`shift`
        repeatedly.

        Args:
            keys: one key per item of the batch [b], or a single key.
            shape: the shape (b, time, c) of the new sounds.
            num_steps: the number of denoising steps for the first window, at least num_splits. Each call of
                :meth:`shift` takes ``num_steps // num_splits`` steps.
            conditioning: other arrays for the net, by name. The model makes append_channels itself.
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

    def noise(
        self, keys: Key[Array, " b"], number: Int[Array, ""] | int, time: int, channels: int
    ) -> Float[Array, "b {time} {channels}"]:
        """Draws standard normal noise, which differs for every ``number``. :meth:`sample` uses number 0 for
        :meth:`start`, 1 for :meth:`noised_to_ladder`, and 2, 3, ... for the calls of :meth:`shift`.
        """
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), (time, channels)))(keys)

    def sample_given(
        self,
        variables: Variables,
        noise: Float[Array, "b {self.length} c"],
        ladder_noise: Float[Array, "b {self.length} c"],
        fresh: Float[Array, "chunks b {self.split_length} c"],
        *,
        num_steps: int,
        **conditioning: Array,
    ) -> Float[Array, "b time c"]:
        """Generates new sounds of ``chunks * split_length`` samples from given noise. :meth:`sample` draws this noise.

        Args:
            noise: the noise for :meth:`start`.
            ladder_noise: the noise for :meth:`noised_to_ladder`.
            fresh: the noise for the calls of :meth:`shift`, one split of noise per call. The last ``num_splits / 2 +
                1`` splits of ``fresh`` are not used.

        Raises:
            InputError: fresh has fewer than num_splits splits, or num_steps is below num_splits.
        """
        num_chunks, half = len(fresh), self.num_splits // 2
        if num_chunks < self.num_splits:
            raise InputError(f"the number of chunks is {num_chunks}: it must be at least the {self.num_splits} splits")
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
        self, variables: Variables, noise: Float[Array, "b {self.length} c"], *, num_steps: int, **conditioning: Array
    ) -> Float[Array, "b {self.length} c"]:
        """Generates the first window from standard normal noise. All splits have the same noise level in each step."""
        timesteps = jnp.asarray(self.process.timesteps(num_steps))
        timesteps = jnp.broadcast_to(timesteps[:, None, None], (num_steps + 1, self.length, 1))
        x = self.process.alpha_sigma(timesteps[:1, 0], noise)[1] * noise
        return self._advanced(variables, x, timesteps, conditioning)

    def noised_to_ladder(self, sounds: Sound, noise: Sound, *, num_steps: int) -> Sound:
        """Adds noise to the first window. Each split gets the first noise level that :meth:`ladder` has for this split.
        Pass the result to :meth:`shift`.

        Args:
            sounds: the result of :meth:`start`.
            noise: standard normal noise in the shape of ``sounds``.
            num_steps: the number that was passed to :meth:`start`.
        """
        return self.process.add_noise(sounds, noise, jnp.asarray(self.ladder(num_steps)[0])[None])

    def shift(
        self,
        variables: Variables,
        window: Float[Array, "b {self.length} c"],
        fresh: Float[Array, "b {self.split_length} c"],
        *,
        num_steps: int,
        **conditioning: Array,
    ) -> tuple[Float[Array, "b {self.length} c"], Float[Array, "b {self.split_length} c"]]:
        """Denoises the window, and moves it forward by one split.

        Args:
            window: the result of :meth:`noised_to_ladder`, or the window that the last :meth:`shift` returned.
            fresh: standard normal noise [b, split_length, c], which becomes the last split of the next window.
            num_steps: the number that was passed to :meth:`start`.

        Returns:
            (the next window [b, length, c], a finished split [b, split_length, c]).
        """
        window = self._advanced(variables, window, jnp.asarray(self.ladder(num_steps)), conditioning)
        middle = self.length // 2
        done = window[:, middle : middle + self.split_length]
        return jnp.concatenate([window[:, self.split_length :], fresh], axis=1), done

    def ladder(self, num_steps: int) -> Float32[np.ndarray, "{num_steps}//{self.num_splits}+1 {self.length} 1"]:
        """Returns the diffusion times of each sample of the window in one call of :meth:`shift`, from first to last.
        The last time of split i is the first time of split i - 1.

        Raises:
            InputError: num_steps is below num_splits.
        """
        steps, half = num_steps // self.num_splits, self.num_splits // 2
        if steps < 1:
            raise InputError(f"the number of steps is {num_steps}: it must be at least the {self.num_splits} splits")
        rungs = np.linspace(self.process.schedule.start, 0, steps * half, dtype=np.float32)
        rungs = rungs.reshape(half, steps)[::-1].T  # [steps, half], with the lowest noise first
        after = np.concatenate([[0], rungs[0, :-1]]).astype(np.float32)
        rungs = np.concatenate([rungs, after[None]])
        context = np.zeros_like(rungs)
        return np.repeat(np.concatenate([context, rungs], axis=1), self.split_length, axis=1)[..., None]

    def _advanced(
        self, variables: Variables, x: Sound, timesteps: Float[Array, "steps time 1"], conditioning: dict[str, Any]
    ) -> Sound:
        denoise = self._denoise(variables, conditioning)
        return advance(denoise, self.process, begin(x, timesteps[0]), timesteps)[0].x

    def _denoise(self, variables: Variables, conditioning: dict[str, Any]) -> Denoise:
        def denoise(x: Sound, t: Float[Array, "b time 1"]) -> Sound:
            x, time = self.process.net_input(x, t)
            return self.net.apply({"params": variables["params"]["net"]}, x, append_channels=time, **conditioning)

        return denoise

    def _split(self, batch: Batch) -> tuple[Sound, dict[str, Any]]:
        """Returns (the sounds of a batch, a dict of its other arrays)."""
        audio = jnp.asarray(batch["audio"], jnp.float32)
        if audio.shape[1] != self.length:
            raise InputError(f"the sounds have {audio.shape[1]} samples: this model needs {self.length}")
        return audio, {name: value for name, value in batch.items() if name != "audio"}
