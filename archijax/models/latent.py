"""Latent diffusion: a diffusion model of the latents of an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.arithmetic import ceil_div
from archijax.contract import Batch, Codec, DiffusionDecoder, LossResult, ScaledCodec, Variables
from archijax.errors import InputError
from archijax.keys import DECODER_NOISE, per_item, stream
from archijax.models.diffusion import DiffusionModel


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """Diffusion of latents, which a frozen autoencoder decodes to sound (ArchiSound, chapter 5).

    A batch has "audio" [b, time, c], which the model encodes, or "latent" [b, frames, channels], the encoded sound.

    Fields:
        model: the diffusion model of the latents, with its own conditioning, such as text.
        autoencoder: encodes sound to latents and decodes latents to sound.
    """

    model: DiffusionModel
    autoencoder: Codec

    @property
    def latent_channels(self) -> int:
        """The channels of the latent."""
        return self.autoencoder.latent_channels

    @property
    def downsample_factor(self) -> int:
        """The samples of sound per frame of the latent."""
        return self.autoencoder.downsample_factor

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Variables for batches with the shapes of ``batch``.

        Args:
            frozen: {"autoencoder": pretrained variables}, with "embedder" as in :meth:`DiffusionModel.init`. A missing
                entry gets random values.

        Raises:
            InputError: the batch has no sound, and there are no variables of the autoencoder.
        """
        key, autoencoder_key = jax.random.split(key)
        frozen = dict(frozen or {})
        if "autoencoder" not in frozen:
            if "audio" not in batch:
                raise InputError(
                    "the batch has latents but no sound: pass the autoencoder's variables as frozen, or audio"
                )
            frozen["autoencoder"] = self.autoencoder.init(autoencoder_key, {"audio": batch["audio"]})
        latents = jax.eval_shape(lambda: self.latents({"frozen": frozen}, batch))
        return self.model.init(key, self._conditioned(batch, jnp.zeros(latents.shape, latents.dtype)), frozen)

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """:meth:`DiffusionModel.loss` of the latents."""
        return self.model.loss(variables, keys, self._conditioned(batch, self.latents(variables, batch)))

    def latents(self, variables: Variables, batch: Batch) -> Float[Array, "b frames {self.latent_channels}"]:
        """The latents that the diffusion model sees: those of the batch, or the encoded sound.

        If the autoencoder has measured its latents in training, each channel is scaled to mean 0 and deviation 1.
        """
        own = variables["frozen"]["autoencoder"]
        if "latent" in batch:
            latent = jnp.asarray(batch["latent"])
        else:
            latent, _ = self.autoencoder.encode(own, jnp.asarray(batch["audio"]))
        if isinstance(self.autoencoder, ScaledCodec):
            mean, deviation = self.autoencoder.latent_scale(own)
            latent = (latent - mean) / deviation
        return jax.lax.stop_gradient(latent)

    def sample(
        self,
        variables: Variables,
        keys: Key[Array, " ..."],
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        decoder_steps: int = 20,
        **settings: Any,
    ) -> Float[Array, "{shape[0]} {shape[1]} {shape[2]}"]:
        """New sounds, decoded in one piece. For minutes of sound, the pipeline decodes in several pieces.

        Args:
            keys: one per item [b], or a single key.
            shape: (b, time, c) of the sounds.
            num_steps: steps of the diffusion of latents.
            decoder_steps: steps of an autoencoder that decodes by diffusion.
            settings: arguments of :meth:`DiffusionModel.sample`, for the latents, such as guidance and tokens.
        """
        keys = per_item(keys, shape[0])
        frames = ceil_div(shape[1], self.downsample_factor)
        latent = self.model.sample(
            variables, keys, shape=(shape[0], frames, self.latent_channels), num_steps=num_steps, **settings
        )
        # The decoder's noise differs from that of the latents.
        keys = stream(keys, DECODER_NOISE)
        size = (frames * self.downsample_factor, shape[2])
        noise = jax.vmap(lambda key: jax.random.normal(key, size))(keys)
        return self.decode(variables, latent, noise, num_steps=decoder_steps)[:, : shape[1]]

    def decode(
        self,
        variables: Variables,
        latent: Float[Array, "b frames {self.latent_channels}"],
        noise: Float[Array, "b frames*{self.downsample_factor} c"] | None = None,
        *,
        num_steps: int = 20,
    ) -> Float[Array, "b frames*{self.downsample_factor} channels"]:
        """Decodes latents to sounds. The latents have the scale of the result of :meth:`latents`.

        Args:
            noise: the noise that an autoencoder with diffusion starts from; None: the autoencoder draws it.
            num_steps: steps of an autoencoder that decodes by diffusion.
        """
        own, latent = variables["frozen"]["autoencoder"], self.unscaled(variables, latent)
        settings = {"num_steps": num_steps} if isinstance(self.autoencoder, DiffusionDecoder) else {}
        return self.autoencoder.decode(own, latent, noise, **settings)

    def unscaled(self, variables: Variables, latent: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape c"]:
        """The latents in the scale of the autoencoder."""
        latent = jnp.asarray(latent)
        if not isinstance(self.autoencoder, ScaledCodec):
            return latent
        mean, deviation = self.autoencoder.latent_scale(variables["frozen"]["autoencoder"])
        return latent * deviation + mean

    def _conditioned(self, batch: Batch, latents: Float[Array, "b frames c"]) -> dict[str, Any]:
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": latents}
