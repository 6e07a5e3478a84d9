"""The diffusion upsampler: a high band for sound of a low sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from archijax.audio.resample import resample
from archijax.errors import InputError
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel


@dataclass(frozen=True, eq=False)
class DiffusionUpsampler:
    """Makes sounds of `factor` times their sample rate, the low-rate sound beside the noise (thesis, section 5.5).

    Fields:
        model: on a net with appended channels, such as ``AppendChannels(UNetV0(...))``; text and the rest as it takes.
        factor: at least 2.
        lowpass_filter_width: of the resampling, see :func:`archijax.audio.resample.resample`; the original's is 6.
    """

    model: DiffusionModel
    factor: int
    lowpass_filter_width: int = 6

    frames: ClassVar[str] = "sound"
    latent_channels: ClassVar[None] = None

    @property
    def downsample_factor(self) -> int:
        """Samples of sound in one of the low rate."""
        return self.factor

    def __post_init__(self):
        if self.factor < 2:
            raise InputError(f"the upsampling factor is {self.factor}: it must be at least 2")

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one: "audio" [b, time, c] at the high rate, time a multiple of factor."""
        return self.model.init(key, self._conditioned(batch), frozen)

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, the low-rate sound made from the batch's own."""
        return self.model.loss(variables, keys, self._conditioned(batch))

    def loss_given(self, variables: dict[str, Any], batch: dict[str, jax.Array], *draws: jax.Array) -> jax.Array:
        """The loss as a function of its draws, see :meth:`DiffusionModel.loss_given`."""
        return self.model.loss_given(variables, self._conditioned(batch), *draws)

    def encode(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(sounds [b, time, c] at the low rate, [b, time / factor, c], nothing)."""
        return resample(audio, self.factor, 1, lowpass_filter_width=self.lowpass_filter_width), {}

    def decode(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array | None = None, **settings: Any
    ) -> jax.Array:
        """Sounds [b, time * factor, c] of low-rate ones [b, time, c], see :func:`decode_by_diffusion`."""
        return decode_by_diffusion(self, variables, frames, noise, channels=frames.shape[-1], **settings)

    def prepare(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, Any]]:
        """(noise, conditioning) of the diffusion model: the low-rate sound beside the noise."""
        return noise, {**batch, "append_channels": self.upsampled(frames)}

    def finish(self, x: jax.Array, frames: jax.Array) -> jax.Array:
        """What the diffusion model makes [b, time * factor, c] with the low band of the low-rate sound [b, time, c].

        x - reupsampled(x) + upsampled(frames): below half the low rate the spectrum is that of the low-rate sound,
        above it that of x (the range and null space of resampling; Wang, Yu & Zhang 2022).
        """
        return x - self.reupsampled(x) + self.upsampled(frames)

    def upsampled(self, low: jax.Array) -> jax.Array:
        """The low-rate sound [b, time, c] at the high rate [b, time * factor, c]: what the net has beside the noise."""
        return resample(low, 1, self.factor, lowpass_filter_width=self.lowpass_filter_width)

    def reupsampled(self, audio: jax.Array) -> jax.Array:
        """A sound [b, time, c] down to the low rate and up again."""
        if audio.shape[1] % self.factor:
            raise InputError(
                f"the sound has {audio.shape[1]} samples: a multiple of the factor {self.factor} is needed"
            )
        return self.upsampled(self.encode({}, audio)[0])

    def _conditioned(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {**batch, "append_channels": self.reupsampled(batch["audio"])}
