"""Latent diffusion: a diffusion model of an autoencoder's latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from archijax.errors import InputError
from archijax.models.autoencoder import AutoEncoder
from archijax.models.diffusion import DiffusionModel, per_item
from archijax.models.diffusion_autoencoder import DiffusionAE


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """Text to minutes of music: diffusion of latents that a frozen autoencoder makes sound of (thesis, section 5.4).

    A batch has "audio" [b, time, c], encoded on the way, or "latent" [b, frames, channels], computed before.

    Fields:
        model: the diffusion model of latents; text and the rest as it takes.
        autoencoder: makes latents of sound and sound of latents.
    """

    model: DiffusionModel
    autoencoder: DiffusionAE | AutoEncoder

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.autoencoder.latent_channels

    @property
    def downsample_factor(self) -> int:
        """Samples of sound per frame of the latent."""
        return self.autoencoder.downsample_factor

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one.

        Args:
            frozen: the pretrained variables of the "autoencoder", and of the "embedder" if it is frozen; without them
                random ones take their place.
        """
        key, autoencoder_key = jax.random.split(key)
        frozen = dict(frozen or {})
        if "autoencoder" not in frozen:
            if "audio" not in batch:
                raise InputError("the batch has latents alone: give the autoencoder's variables as frozen, or sound")
            frozen["autoencoder"] = self.autoencoder.init(autoencoder_key, {"audio": batch["audio"]})
        latents = jax.eval_shape(lambda: self.latents({"frozen": frozen}, batch))
        return self.model.init(key, self._given(batch, jnp.zeros(latents.shape, latents.dtype)), frozen)

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, of latents."""
        return self.model.loss(variables, keys, self._given(batch, self.latents(variables, batch)))

    def latents(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> jax.Array:
        """The latents [b, frames, channels] of a batch, its own or those of its sound, as they are diffused.

        Where the autoencoder knows mean and deviation of its channels, they are scaled to 0 and 1.
        """
        own = variables["frozen"]["autoencoder"]
        latent = batch["latent"] if "latent" in batch else self.autoencoder.encode(own, batch["audio"])[0]
        if isinstance(self.autoencoder, AutoEncoder):
            mean, deviation = self.autoencoder.latent_scale(own)
            latent = (latent - mean) / deviation
        return jax.lax.stop_gradient(latent)

    def sample(
        self,
        variables: dict[str, Any],
        keys: jax.Array,
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        decoder_steps: int = 20,
        **settings: Any,
    ) -> jax.Array:
        """Sounds [b, time, c] of a shape, decoded as a whole: minutes of sound are better decoded by parts.

        Args:
            keys: one per item [b], or a single key.
            decoder_steps: of a diffusion autoencoder.
            settings: of :meth:`DiffusionModel.sample`, for the latents: guidance, tokens, window in frames ...
        """
        keys = per_item(keys, shape[0])
        frames = -(-shape[1] // self.downsample_factor)
        latent = self.model.sample(
            variables, keys, shape=(shape[0], frames, self.latent_channels), num_steps=num_steps, **settings
        )
        # The decoder's noise is not that of the latents.
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
        sound = self.decode(variables, keys, latent, num_steps=decoder_steps, channels=shape[2])
        return sound[:, : shape[1]]

    def decode(
        self,
        variables: dict[str, Any],
        keys: jax.Array,
        latent: jax.Array,
        *,
        num_steps: int,
        channels: int,
        **settings: Any,
    ) -> jax.Array:
        """Sounds [b, frames * downsample_factor, channels] of latents [b, frames, latent_channels] as diffused.

        Args:
            keys, num_steps, settings: of :meth:`DiffusionAE.decode`; a plain autoencoder has no use for them.
        """
        own = variables["frozen"]["autoencoder"]
        if isinstance(self.autoencoder, AutoEncoder):
            mean, deviation = self.autoencoder.latent_scale(own)
            return self.autoencoder.decode(own, latent * deviation + mean)
        return self.autoencoder.decode(own, keys, latent, num_steps=num_steps, channels=channels, **settings)

    def _given(self, batch: dict[str, jax.Array], latents: jax.Array) -> dict[str, jax.Array]:
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": latents}
