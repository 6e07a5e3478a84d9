"""The diffusion vocoder: sound of a mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.mel import MelSpectrogram
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel
from archijax.nn.linear import transposed_conv, uniform_init


@dataclass(frozen=True, eq=False)
class DiffusionVocoder:
    """Makes sound of mel spectrograms, every channel for itself (thesis, section 5.6).

    A learned transposed convolution turns the spectrogram into one channel beside the noise.

    Fields:
        model: on a net with one appended channel, such as ``AppendChannels(UNetV0(...))``, for mono sound.
        mel: the spectrogram; window_length - hop_length must be even.
        whiten: diffuse the sound with its spectrum made flat by the spectrogram's envelope, which what is sampled gets
            back: noise and sound are then equally loud at all frequencies and times, silence among them. As good as
            noise shaped by the envelope (SpecGrad, Koizumi et al. 2022); the original does without.
    """

    model: DiffusionModel
    mel: MelSpectrogram
    whiten: bool = False

    frames: ClassVar[str] = "mel"
    latent_channels: ClassVar[None] = None

    @property
    def downsample_factor(self) -> int:
        """Samples of sound in a frame."""
        return self.mel.hop_length

    def __post_init__(self):
        if (self._window - self.mel.hop_length) % 2 or (self.mel.n_fft - self.mel.hop_length) % 2:
            raise InputError(
                f"n_fft {self.mel.n_fft} and window {self._window} with hop {self.mel.hop_length}: both must differ "
                "from the hop by an even number, so that frames and samples line up"
            )

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one: "audio" [b, time, c], time a multiple of the hop."""
        net_key, flat_key = jax.random.split(key)
        shape = (self._window, self.mel.n_mel_channels, 1)
        kernel = uniform_init(self._window)(flat_key, shape)
        audio = batch["audio"][..., :1]
        variables = self.model.init(
            net_key, {**batch, "audio": audio, "append_channels": jnp.zeros_like(audio)}, frozen
        )
        return {**variables, "params": {**variables["params"], "to_flat": {"kernel": kernel}}}

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, over the channels of every item; the spectrograms are the batch's own."""
        audio = batch["audio"]
        return self.model.loss(variables, self.channel_keys(keys, audio.shape), self._conditioned(variables, batch))

    def loss_given(self, variables: dict[str, Any], batch: dict[str, jax.Array], *draws: jax.Array) -> jax.Array:
        """The loss as a function of its draws for [b * c, time, 1], see :meth:`DiffusionModel.loss_given`."""
        return self.model.loss_given(variables, self._conditioned(variables, batch), *draws)

    def encode(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(spectrograms [b, time / hop_length, mels, c] of sounds [b, time, c], nothing)."""
        return self.mel.encode(audio), {}

    def decode(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array | None = None, **settings: Any
    ) -> jax.Array:
        """Sounds [b, frames * hop_length, c] of spectrograms [b, frames, mels, c], see :func:`decode_by_diffusion`."""
        return decode_by_diffusion(self, variables, frames, noise, channels=frames.shape[-1], **settings)

    def prepare(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, Any]]:
        """(noise [b * c, time, 1], conditioning) of the diffusion model, whose items are the channels.

        Args:
            noise: [b, time, c]; with one channel all start from it: what is alike in them stays so, in the middle.
        """
        channels = frames.shape[-1]
        noise = jnp.broadcast_to(noise, (*noise.shape[:2], channels))
        batch = {name: jnp.repeat(array, channels, axis=0) for name, array in batch.items()}
        return self._mono(noise), {**batch, "append_channels": self.flattened(variables, frames)}

    def finish(self, x: jax.Array, frames: jax.Array) -> jax.Array:
        """Sounds [b, time, c] of what the diffusion model makes [b * c, time, 1], brought to the spectrogram."""
        return self.consistent(self.colored(x, frames), frames)

    def colored(self, mono: jax.Array, spectrogram: jax.Array) -> jax.Array:
        """Sounds [b, time, c] of single channels [b * c, time, 1]; whitened ones get their spectrum back."""
        b, _, _, channels = spectrogram.shape
        sound = jnp.swapaxes(mono.reshape(b, channels, -1), 1, 2)
        return self._shaped(sound, self._level(spectrogram)) if self.whiten else sound

    def consistent(self, sound: jax.Array, spectrogram: jax.Array, num_steps: int = 64) -> jax.Array:
        """A sound [b, time, c] brought to the spectrogram [b, frames, mels, c], its phases nearly kept.

        Each step multiplies every frame and frequency by how far the spectrogram's envelope is above the sound's, and
        makes sound of that: projections in turn, as Griffin & Lim's (1984). By "max" the spectrogram has lost its
        level, and the sound stays as it is.
        """
        if self.mel.normalize == "max":
            return sound
        envelope = self.mel.envelope(spectrogram)

        def step(sound: jax.Array, _: None) -> tuple[jax.Array, None]:
            return self._shaped(sound, envelope / self.mel.envelope(self.mel.encode(sound))), None

        return jax.lax.scan(step, sound, length=num_steps)[0]

    def flattened(self, variables: dict[str, Any], spectrogram: jax.Array) -> jax.Array:
        """Spectrograms [b, frames, mels, c] as a channel beside the noise, [b * c, frames * hop_length, 1]."""
        b, frames, mels, channels = spectrogram.shape
        if mels != self.mel.n_mel_channels:
            raise InputError(f"the spectrogram has {mels} mel bands: this vocoder reads {self.mel.n_mel_channels}")
        x = jnp.moveaxis(spectrogram, -1, 1).reshape(b * channels, frames, mels)
        hop, kernel = self.mel.hop_length, variables["params"]["to_flat"]["kernel"]
        kernel = jnp.pad(kernel, ((0, -self._window % hop), (0, 0), (0, 0)))
        y = transposed_conv(x, kernel, hop, padding=0)
        padding = (self._window - hop) // 2
        return y[:, padding : padding + frames * hop]

    def channel_keys(self, keys: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
        """A key for each channel [b * c] of sounds of a shape (b, time, c)."""
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        return fold(per_item(keys, shape[0]), jnp.arange(shape[2])).reshape(-1)

    def _conditioned(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        audio = batch["audio"]
        if audio.shape[1] % self.mel.hop_length:
            raise InputError(
                f"the sound has {audio.shape[1]} samples: a multiple of the hop {self.mel.hop_length} is needed"
            )
        channels = audio.shape[2]
        rest = {name: jnp.repeat(value, channels, axis=0) for name, value in batch.items()}
        spectrogram = self.mel.encode(audio)
        sound = self._shaped(audio, 1 / self._level(spectrogram)) if self.whiten else audio
        return {**rest, "audio": self._mono(sound), "append_channels": self.flattened(variables, spectrogram)}

    def _mono(self, sound: jax.Array) -> jax.Array:
        return jnp.swapaxes(sound, 1, 2).reshape(-1, sound.shape[1], 1)

    def _level(self, spectrogram: jax.Array) -> jax.Array:
        """What white noise of variance 1 is multiplied by at each frame and frequency to have a spectrogram."""
        stft = self.mel.stft
        # The mean magnitude of a complex Gaussian is (pi / 4)^(1/2) of its root mean square, which is the window's.
        noise = np.sqrt(np.pi / 4 * np.sum(np.square(stft.window(self._window))) / stft.n_fft)
        return self.mel.envelope(spectrogram) / np.float32(noise)

    def _shaped(self, sound: jax.Array, by: jax.Array) -> jax.Array:
        z = self.mel.stft.encode(sound)
        return self.mel.stft.decode(z * by.astype(z.dtype), sound.shape[1])

    @property
    def _window(self) -> int:
        return self.mel.window_length or self.mel.n_fft
