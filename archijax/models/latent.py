"""Latent diffusion: a diffusion model of an autoencoder's latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.contract import Codec, DiffusionDecoder
from archijax.errors import InputError
from archijax.keys import DECODER_NOISE, per_item, stream
from archijax.models.diffusion import DiffusionModel


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """Text to minutes of music: diffusion of latents that a frozen autoencoder makes sound of (thesis, chapter 5).

    A batch has "audio" [b, time, c], encoded on the way, or "latent" [b, frames, channels], computed before.

    Fields:
        model: the diffusion model of latents; text and the rest as it takes.
        autoencoder: makes latents of sound and sound of latents.
    """

    model: DiffusionModel
    autoencoder: Codec

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
        return self.model.init(key, self._conditioned(batch, jnp.zeros(latents.shape, latents.dtype)), frozen)

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, of latents."""
        return self.model.loss(variables, keys, self._conditioned(batch, self.latents(variables, batch)))

    def latents(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> jax.Array:
        """The latents [b, frames, channels] of a batch: its own, or those of its sound."""
        if "latent" in batch:
            return batch["latent"]
        latent, _ = self.autoencoder.encode(variables["frozen"]["autoencoder"], batch["audio"])
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
        frames = ceil_div(shape[1], self.downsample_factor)
        latent = self.model.sample(
            variables, keys, shape=(shape[0], frames, self.latent_channels), num_steps=num_steps, **settings
        )
        # The decoder's noise is not that of the latents.
        keys = stream(keys, DECODER_NOISE)
        size = (frames * self.downsample_factor, shape[2])
        noise = jax.vmap(lambda key: jax.random.normal(key, size))(keys)
        return self.decode(variables, latent, noise, num_steps=decoder_steps)[:, : shape[1]]

    def decode(
        self, variables: dict[str, Any], latent: jax.Array, noise: jax.Array | None = None, *, num_steps: int = 20
    ) -> jax.Array:
        """Sounds [b, frames * downsample_factor, c] of latents [b, frames, latent_channels].

        Args:
            noise: [b, frames * downsample_factor, c], for a decoder that starts from noise.
            num_steps: of a decoder by diffusion.
        """
        settings = {"num_steps": num_steps} if isinstance(self.autoencoder, DiffusionDecoder) else {}
        return self.autoencoder.decode(variables["frozen"]["autoencoder"], latent, noise, **settings)

    def _conditioned(self, batch: dict[str, jax.Array], latents: jax.Array) -> dict[str, jax.Array]:
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": latents}
