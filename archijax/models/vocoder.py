"""Contains the diffusion vocoder, which makes sound from a mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.audio.griffin_lim import griffin_lim
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import to_polar
from archijax.contract import Batch, LossResult, Variables
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel
from archijax.models.envelope import Levels, MelEnvelope, level_error, noise_level, raised
from archijax.nn.linear import transposed_conv, uniform_init

PROJECTIONS = 32  # steps of Griffin-Lim that restore the magnitudes


@dataclass(frozen=True, eq=False)
class DiffusionVocoder:
    """A model that makes sound from mel spectrograms. The model treats each channel of a sound as an item of the batch
    (ArchiSound, section 5.6).

    A learned transposed convolution turns the spectrogram into one channel of samples, which is appended to the noisy
    sound. ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c] makes the variables.
    ``model.decode(variables, mel, num_steps=50, keys=key)`` turns spectrograms mel [b, frames, n_mel_channels, c] into
    sounds [b, frames * hop_length, c].

    Fields:
        model: a diffusion model of mono sound, whose net takes one appended channel, such as
            ``DiffusionModel(net=AppendChannels(UNetV0(...)))``.
        mel: the transform from sound to spectrograms, such as ``archijax.audio.MelSpectrogram(1024, 256)``. For this
            transform, n_fft - hop_length and window_length - hop_length must be even.
        envelope: a net that estimates the level of each frequency from the mel spectrogram, an
            :class:`archijax.models.envelope.MelEnvelope` of ``mel.stft``, or None for no envelope, as in the
            original code. The spectrum of a sound is divided by the levels before diffusion. Noise and sound are then
            equally loud at all frequencies and times, even in silence. Diffusion with noise that has the spectrum of
            the envelope is equivalent (SpecGrad, Koizumi et al. 2022). After diffusion, Griffin-Lim restores the
            estimated levels, from the phases of the sampled sound.

    Raises:
        InputError: n_fft or window_length differs from hop_length by an odd number. The envelope needs "log" mel
            spectrograms and the STFT of ``mel``.
    """

    model: DiffusionModel
    mel: MelSpectrogram
    envelope: MelEnvelope | None = None

    frames: ClassVar[str] = "mel"
    latent_channels: ClassVar[None] = None

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per frame."""
        return self.mel.hop_length

    def __post_init__(self):
        if (self._window - self.mel.hop_length) % 2 or (self.mel.n_fft - self.mel.hop_length) % 2:
            raise InputError(
                f"n_fft {self.mel.n_fft} and window {self._window} with hop {self.mel.hop_length}: both must differ "
                "from the hop by an even number, so that frames and samples are aligned"
            )
        if self.envelope is not None and (self.mel.normalize != "log" or self.envelope.stft != self.mel.stft):
            raise InputError(
                f"the envelope has {self.envelope.stft} and the mel spectrogram {self.mel}: the spectrogram must have "
                'normalize="log" and the same STFT'
            )

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables. ``batch`` is a dict with "audio" [b, time, c]. Only the shapes in ``batch``
        matter, and one item (b = 1) is enough. For ``frozen``, see :meth:`DiffusionModel.init`.
        """
        net_key, flat_key = jax.random.split(key)
        shape = (self._window, self.mel.n_mel_channels, 1)
        kernel = uniform_init(self._window)(flat_key, shape)
        audio = jnp.asarray(batch["audio"])[..., :1]
        own: dict[str, Any] = {"to_flat": {"kernel": kernel}}
        if self.envelope is not None:
            net_key, envelope_key = jax.random.split(net_key)
            frames = audio.shape[1] // self.mel.hop_length
            mel = jnp.zeros((1, frames, self.mel.n_mel_channels))
            first = jnp.zeros((1, frames, self.mel.stft.frequencies, 1))
            own["envelope"] = self.envelope.init(envelope_key, mel, first)["params"]
        variables = self.model.init(
            net_key, {**batch, "audio": audio, "append_channels": jnp.zeros_like(audio)}, frozen
        )
        return {**variables, "params": {**variables["params"], **own}}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes :meth:`DiffusionModel.loss` over all channels of the sounds [b, time, c] in the batch. With an
        envelope, the error of the estimated levels is added, which is also the metric "envelope".

        The spectrograms are computed from these sounds. hop_length must divide time.
        """
        keys = self.channel_keys(keys, batch["audio"].shape)
        conditioned, levels = self._conditioned(variables, batch)
        loss, (metrics, state) = self.model.loss(variables, keys, conditioned)
        if self.envelope is None:
            return loss, (metrics, state)
        error = level_error(levels, self._mono(jnp.asarray(batch["audio"])), self.mel.stft)
        return loss + error, ({**metrics, "envelope": error}, state)

    def loss_given(self, variables: Variables, batch: Batch, *draws: Array) -> Float[Array, ""]:
        """Computes the loss of the diffusion model. ``draws`` are the arguments t [b * c], eps [b * c, time, 1] and
        masked [b * c] of :meth:`DiffusionModel.loss_given`.
        """
        return self.model.loss_given(variables, self._conditioned(variables, batch)[0], *draws)

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames mels c"], dict[str, Array]]:
        """Computes mel spectrograms of ``time // hop_length`` frames. Returns (the spectrograms, an empty dict)."""
        return self.mel.encode(audio), {}

    def decode(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames mels c"],
        noise: Float[Array | np.ndarray, "b time c"] | None = None,
        **settings: Any,
    ) -> Float[Array, "b frames*{self.downsample_factor} c"]:
        """Turns spectrograms into sounds: ``decode(variables, frames, num_steps=50, keys=key)``. For noise and
        settings, see :func:`decode_by_diffusion`.
        """
        return decode_by_diffusion(self, variables, frames, noise, channels=frames.shape[-1], **settings)

    def prepare(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames mels c"],
        noise: Float[Array | np.ndarray, "b time #c"],
        batch: Batch,
    ) -> tuple[Float[Array, "b*c time 1"], dict[str, Any]]:
        """Returns (noise, conditioning) for the diffusion model, which treats each channel as an item of the batch.

        Args:
            noise: the noise from which diffusion starts. If the noise has one channel, all channels of a sound start
                from the same noise. Equal spectrograms of two channels then give equal sounds, which keeps the stereo
                image.
            batch: a dict of other conditioning, with arrays [b, ...].
        """
        channels = frames.shape[-1]
        noise = jnp.broadcast_to(noise, (*noise.shape[:2], channels))
        batch = {name: jnp.repeat(array, channels, axis=0) for name, array in batch.items()}
        return self._mono(noise), {**batch, "append_channels": self.flattened(variables, frames)}

    def finish(
        self,
        variables: Variables,
        x: Float[Array | np.ndarray, "bc time 1"],
        frames: Float[Array | np.ndarray, "b frames mels c"],
    ) -> Float[Array, "b time c"]:
        """Joins the mono sounds x, which the diffusion model has sampled, into sounds with c channels.

        With an envelope, Griffin-Lim gives the sounds the estimated levels, changed until they have the spectrograms
        ``frames``. Otherwise :meth:`consistent` gives the sounds these spectrograms.
        """
        if self.envelope is None:
            return self.consistent(self._joined(x, frames.shape[-1]), frames)
        # Uncertain estimates of log-levels are too low. The spectrogram tells the level of each mel band.
        estimate = jnp.exp(self._levels(variables, frames) + noise_level(self.mel.stft))
        magnitude = self.mel.to_magnitude(self._separated(frames)[..., None], first=estimate)
        stft = self.mel.stft
        sound = griffin_lim(magnitude, to_polar(stft.encode(x))[1], stft, x.shape[1], PROJECTIONS)
        return self._joined(sound, frames.shape[-1])

    def consistent(
        self,
        sound: Float[Array, "b time c"],
        spectrogram: Float[Array | np.ndarray, "b frames mels c"],
        num_steps: int = 64,
    ) -> Float[Array, "b time c"]:
        """Changes a sound, in num_steps steps, until it has the given spectrogram. The phases stay nearly the same.

        Each step multiplies the sound's STFT by the envelope of the spectrogram, divides it by the envelope of the
        sound, and inverts the STFT. The steps are alternating projections, like the algorithm of Griffin & Lim (1984).
        If ``mel.normalize`` is "max", the spectrogram does not contain the level of the sound, and the sound is
        returned unchanged.
        """
        if self.mel.normalize == "max":
            return sound
        envelope = self.mel.envelope(spectrogram)

        def step(sound: Float[Array, "b time c"], _: None) -> tuple[Float[Array, "b time c"], None]:
            return self.mel.stft.shaped(sound, envelope / self.mel.envelope(self.mel.encode(sound))), None

        return jax.lax.scan(step, sound, length=num_steps)[0]

    def flattened(
        self, variables: Variables, spectrogram: Float[Array | np.ndarray, "b frames mels c"]
    ) -> Float[Array, "b*c frames*{self.downsample_factor} 1"]:
        """Turns the spectrogram of each channel into one channel of samples, which the net reads. Raises InputError for
        a wrong number of mel bands.
        """
        _, frames, mels, _ = spectrogram.shape
        if mels != self.mel.n_mel_channels:
            raise InputError(f"the spectrogram has {mels} mel bands: this vocoder reads {self.mel.n_mel_channels}")
        x = self._separated(spectrogram)
        hop, kernel = self.mel.hop_length, variables["params"]["to_flat"]["kernel"]
        kernel = jnp.pad(kernel, ((0, -self._window % hop), (0, 0), (0, 0)))
        y = transposed_conv(x, kernel, hop, padding=0)
        padding = (self._window - hop) // 2
        return y[:, padding : padding + frames * hop]

    def channel_keys(self, keys: Key[Array, " ..."], shape: tuple[int, int, int]) -> Key[Array, " bc"]:
        """Returns b * c keys, one for each channel of sounds with the shape (b, time, c). ``keys`` are one key per
        sound [b], or a single key.
        """
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        return fold(per_item(keys, shape[0]), jnp.arange(shape[2])).reshape(-1)

    def _conditioned(self, variables: Variables, batch: Batch) -> tuple[Batch, Levels]:
        """Returns (a batch of mono sounds with their conditioning, the log-levels estimated for these sounds)."""
        audio = jnp.asarray(batch["audio"])
        if audio.shape[1] % self.mel.hop_length:
            raise InputError(
                f"the sound has {audio.shape[1]} samples: a multiple of the hop {self.mel.hop_length} is needed"
            )
        rest = {name: jnp.repeat(value, audio.shape[2], axis=0) for name, value in batch.items()}
        spectrogram, sound = self.mel.encode(audio), self._mono(audio)
        levels = self._levels(variables, spectrogram)
        if self.envelope is not None:
            whole = raised(jax.lax.stop_gradient(levels), sound, self.mel.stft)
            sound = self.mel.stft.shaped(sound, jnp.exp(-whole))
        return {**rest, "audio": sound, "append_channels": self.flattened(variables, spectrogram)}, levels

    def _levels(
        self, variables: Variables, spectrogram: Float[Array | np.ndarray, "b frames mels c"]
    ) -> Float[Array, "bc frames f 1"] | Float[Array, ""]:
        """Returns the log-levels [b * c, frames, f, 1] of all frequencies, or zero if there is no envelope."""
        if self.envelope is None:
            return jnp.zeros(())
        spectrogram = jnp.asarray(spectrogram)
        first = self._separated(jnp.log(self.mel.envelope(spectrogram)) - noise_level(self.mel.stft))
        features = self._separated(spectrogram) / 5  # about as large as a standard normal
        return self.envelope.apply({"params": variables["params"]["envelope"]}, features, first[..., None])

    def _mono(self, sound: Float[Array, "b time c"]) -> Float[Array, "b*c time 1"]:
        return self._separated(sound[:, :, None])

    def _separated(self, x: Float[Array | np.ndarray, "b n f c"]) -> Float[Array, "b*c n f"]:
        return jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3])

    def _joined(self, mono: Float[Array | np.ndarray, "bc time 1"], channels: int) -> Float[Array, "b time {channels}"]:
        return jnp.swapaxes(mono.reshape(-1, channels, mono.shape[1]), 1, 2)

    @property
    def _window(self) -> int:
        return self.mel.window_length or self.mel.n_fft
