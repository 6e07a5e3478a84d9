"""Contains the diffusion upsampler, which adds high frequencies to sounds of a low sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.audio.resample import resample
from archijax.contract import Batch, LossResult, Variables
from archijax.errors import InputError
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel
from archijax.models.envelope import Envelope, Levels, gains, level_error, raised


@dataclass(frozen=True, eq=False)
class DiffusionUpsampler:
    """A model that multiplies the sample rate of sounds by ``factor``. The net sees the sound of the low sample rate
    (ArchiSound, section 5.5).

    ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c] at the high sample rate makes the
    variables. ``model.decode(variables, low, num_steps=50, keys=key)`` turns sounds low [b, n, c] into sounds [b, n *
    factor, c].

    Fields:
        model: a diffusion model whose net takes appended channels, such as
            ``DiffusionModel(net=AppendChannels(UNetV0(...)))``.
        factor: the factor between the two sample rates, at least 2.
        envelope: a net that estimates the envelope of the high band, an :class:`archijax.models.envelope.Envelope`, or
            None for no envelope, as in the original code. The spectrum of a sound is divided by the envelope before
            diffusion, and multiplied by the envelope afterwards. The high band of most sounds is very quiet. Without an
            envelope, the noise that a sampler leaves is louder than the high band.
        lowpass_filter_width: see :func:`archijax.audio.resample.resample`. The original code uses 6.

    Raises:
        InputError: the factor is below 2.
    """

    model: DiffusionModel
    factor: int
    envelope: Envelope | None = None
    lowpass_filter_width: int = 6

    frames: ClassVar[str] = "sound"
    latent_channels: ClassVar[None] = None

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per sample at the low sample rate."""
        return self.factor

    def __post_init__(self):
        if self.factor < 2:
            raise InputError(f"the upsampling factor is {self.factor}: it must be at least 2")

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables. ``batch`` is a dict with "audio" [b, time, c] at the high sample rate.

        The field `factor` must divide time. Only the shapes in ``batch`` matter, and one item (b = 1) is enough. For
        ``frozen``, see :meth:`DiffusionModel.init`.
        """
        if self.envelope is None:
            return self.model.init(key, self._conditioned(batch, *self._low({}, batch)), frozen)
        key, envelope_key = jax.random.split(key)
        audio = jnp.asarray(batch["audio"], jnp.float32)
        envelope = self.envelope.init(envelope_key, audio)["params"]
        variables = self.model.init(key, {**batch, "append_channels": audio}, frozen)
        return {**variables, "params": {**variables["params"], "envelope": envelope}}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes :meth:`DiffusionModel.loss` for sounds at the high sample rate. The low-rate sounds are resampled
        from these sounds. With an envelope, the error of the envelope is added to the loss, and is the metric
        "envelope".
        """
        low, levels = self._low(variables, batch)
        loss, (metrics, state) = self.model.loss(variables, keys, self._conditioned(batch, low, levels))
        if self.envelope is None:
            return loss, (metrics, state)
        error = level_error(levels, jnp.asarray(batch["audio"]), self.envelope.stft, self.envelope.bins)
        return loss + error, ({**metrics, "envelope": error}, state)

    def loss_given(self, variables: Variables, batch: Batch, *draws: Array) -> Float[Array, ""]:
        """Computes the loss of the diffusion model. ``draws`` are the arguments t, eps and masked of
        :meth:`DiffusionModel.loss_given`.
        """
        return self.model.loss_given(variables, self._conditioned(batch, *self._low(variables, batch)), *draws)

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames c"], dict[str, Array]]:
        """Resamples sounds to the low sample rate. Returns (sounds of ``time // factor`` samples, an empty dict)."""
        return resample(audio, self.factor, 1, lowpass_filter_width=self.lowpass_filter_width), {}

    def decode(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames c"],
        noise: Float[Array | np.ndarray, "b frames*{self.factor} c"] | None = None,
        **settings: Any,
    ) -> Float[Array, "b frames*{self.factor} c"]:
        """Turns low-rate sounds into high-rate sounds: ``decode(variables, frames, num_steps=50, keys=key)``. For noise
        and settings, see :func:`decode_by_diffusion`.
        """
        return decode_by_diffusion(self, variables, frames, noise, channels=frames.shape[-1], **settings)

    def prepare(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames c"],
        noise: Float[Array | np.ndarray, "b frames*{self.factor} c"],
        batch: Batch,
    ) -> tuple[Float[Array, "b frames*{self.factor} c"], dict[str, Any]]:
        """Returns (noise, conditioning) for the diffusion model. The noise is unchanged. The conditioning consists of
        ``batch`` (other conditioning) and the entry "append_channels": the low-rate sound, resampled to the high sample
        rate.
        """
        low = self.upsampled(frames)
        return noise, {**batch, "append_channels": self._read(low, self._levels(variables, low))}

    def finish(
        self,
        variables: Variables,
        x: Float[Array | np.ndarray, "b time c"],
        frames: Float[Array | np.ndarray, "b frames c"],
    ) -> Float[Array, "b frames*{self.factor} c"]:
        """Replaces the low frequencies of x, which the diffusion model has sampled, by the low-rate sound ``frames``.

        With an envelope, the spectrum of x is first multiplied by the envelope. The result is x - reupsampled(x) +
        upsampled(frames) (Wang, Yu & Zhang 2022). At frequencies below half of the low sample rate, the result has the
        spectrum of the low-rate sound. Above half of the low sample rate, the result has the spectrum of x.
        """
        low = self.upsampled(frames)
        if self.envelope is not None:
            stft = self.envelope.stft
            x = stft.shaped(jnp.asarray(x), gains(self._levels(variables, low), stft))
        return x - self.reupsampled(x) + low

    def upsampled(self, low: Float[Array | np.ndarray, "b frames c"]) -> Float[Array, "b frames*{self.factor} c"]:
        """Resamples a sound from the low to the high sample rate."""
        return resample(low, 1, self.factor, lowpass_filter_width=self.lowpass_filter_width)

    def reupsampled(self, audio: Float[Array | np.ndarray, "b time c"]) -> Float[Array, "b time c"]:
        """Resamples a sound to the low sample rate and back. Raises InputError if the field `factor` does not divide
        time.
        """
        if audio.shape[1] % self.factor:
            raise InputError(
                f"the sound has {audio.shape[1]} samples: a multiple of the factor {self.factor} is needed"
            )
        return self.upsampled(self.encode({}, audio)[0])

    def _low(self, variables: Variables, batch: Batch) -> tuple[Float[Array, "b time c"], Levels]:
        """Returns (the low band of the sounds of a batch, the log-levels that are estimated from the low band)."""
        low = self.reupsampled(jnp.asarray(batch["audio"]))
        return low, self._levels(variables, low)

    def _conditioned(self, batch: Batch, low: Float[Array, "b time c"], levels: Levels) -> Batch:
        audio, levels = jnp.asarray(batch["audio"]), jax.lax.stop_gradient(levels)
        if self.envelope is not None:
            levels = raised(levels, audio, self.envelope.stft)
        return {**batch, "audio": self._whitened(audio, levels), "append_channels": self._read(low, levels)}

    def _levels(self, variables: Variables, low: Float[Array, "b time c"]) -> Levels:
        """Returns the log-levels of all frequencies, or zero if there is no envelope."""
        if self.envelope is None:
            return jnp.zeros(())
        return self.envelope.apply({"params": variables["params"]["envelope"]}, low)

    def _whitened(self, sound: Float[Array, "b time c"], levels: Levels) -> Float[Array, "b time c"]:
        """Divides the spectrum of a sound by exp(levels). Without an envelope, returns the sound unchanged."""
        return sound if self.envelope is None else self.envelope.stft.shaped(sound, jnp.exp(-levels))

    def _read(self, low: Float[Array, "b time c"], levels: Levels) -> Float[Array, "b time c"]:
        """Returns the low band for the net. With an envelope, the spectrum of this band is divided by exp(levels)."""
        return low if self.envelope is None else self.envelope.known(low, levels)
