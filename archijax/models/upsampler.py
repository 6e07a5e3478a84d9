"""The diffusion upsampler: what a sound of a low sample rate lacks, made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from archijax.audio.resample import resample
from archijax.errors import InputError
from archijax.models.diffusion import DiffusionModel


@dataclass(frozen=True, eq=False)
class DiffusionUpsampler:
    """Makes sounds of `factor` times their sample rate, the low-rate sound beside the noise (thesis, section 5.6).

    Fields:
        model: on a net with appended channels, such as ``AppendChannels(UNetV0(...))``; text and the rest as it takes.
        factor: at least 2.
        lowpass_filter_width: of the resampling, see :func:`archijax.audio.resample.resample`; the original's is 6.
    """

    model: DiffusionModel
    factor: int
    lowpass_filter_width: int = 6

    def __post_init__(self):
        if self.factor < 2:
            raise InputError(f"the upsampling factor is {self.factor}: it must be at least 2")

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one: "audio" [b, time, c] at the high rate, time a multiple of factor."""
        return self.model.init(key, self._given(batch), frozen)

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, the low-rate sound made from the batch's own."""
        return self.model.loss(variables, keys, self._given(batch))

    def loss_given(self, variables: dict[str, Any], batch: dict[str, jax.Array], *draws: jax.Array) -> jax.Array:
        """The loss as a function of its draws, see :meth:`DiffusionModel.loss_given`."""
        return self.model.loss_given(variables, self._given(batch), *draws)

    def sample(
        self, variables: dict[str, Any], keys: jax.Array, low: jax.Array, *, num_steps: int, **settings: Any
    ) -> jax.Array:
        """Sounds [b, time * factor, c] from low-rate ones [b, time, c].

        Args:
            settings: of :meth:`DiffusionModel.sample`: sampler, window, tokens, noise [b, time * factor, c] ...
        """
        high = self.upsampled(low)
        return self.model.sample(
            variables, keys, shape=high.shape, num_steps=num_steps, append_channels=high, **settings
        )

    def reconstruct(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None, num_steps: int = 50
    ) -> jax.Array:
        """Sounds [b, time, c] from their own low-rate versions; keys as for :meth:`sample`, by default the same."""
        low = resample(audio, self.factor, 1, lowpass_filter_width=self.lowpass_filter_width)
        made = self.sample(variables, jax.random.key(0) if keys is None else keys, low, num_steps=num_steps)
        return self.consistent(made, low)

    def consistent(self, made: jax.Array, low: jax.Array) -> jax.Array:
        """A sound made [b, time * factor, c] with what the low-rate one [b, time, c] says of it put in its place.

        made - reupsampled(made) + upsampled(low): below the low rate's half the spectrum is that of `low`, above it
        the made one's (the range and null space of resampling; Wang, Yu & Zhang 2022).
        """
        return made - self.reupsampled(made) + self.upsampled(low)

    def upsampled(self, low: jax.Array) -> jax.Array:
        """The low-rate sound [b, time, c] at the high rate [b, time * factor, c]: what the net is given."""
        return resample(low, 1, self.factor, lowpass_filter_width=self.lowpass_filter_width)

    def reupsampled(self, audio: jax.Array) -> jax.Array:
        """A sound [b, time, c] down to the low rate and up again."""
        if audio.shape[1] % self.factor:
            raise InputError(
                f"the sound has {audio.shape[1]} samples: a multiple of the factor {self.factor} is needed"
            )
        return self.upsampled(resample(audio, self.factor, 1, lowpass_filter_width=self.lowpass_filter_width))

    def _given(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {**batch, "append_channels": self.reupsampled(batch["audio"])}
