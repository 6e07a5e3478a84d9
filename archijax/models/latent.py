"""Latent diffusion: a diffusion model of an autoencoder's latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from .autoencoder import AutoEncoder
from .diffusion import DiffusionModel
from .diffusion_autoencoder import DiffusionAE


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """Text to minutes of music: diffusion of latents that a frozen autoencoder makes sound of (thesis, section 5.4).

    A batch has "audio" [b, time, c], encoded on the way, or "latent" [b, frames, channels], computed before.

    Fields:
        model: the diffusion model of latents; text and the rest as it takes.
        autoencoder: makes latents of sound and sound of latents.
        pretrained: gives the autoencoder's variables, which are then frozen.
    """

    model: DiffusionModel
    autoencoder: DiffusionAE | AutoEncoder
    pretrained: Callable[[], Any]

    def init(self, key: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """Variables for batches like this one."""
        frozen = {"autoencoder": self.pretrained()}
        latents = jax.eval_shape(lambda: self.latents({"frozen": frozen}, batch))
        latents = jax.numpy.zeros(latents.shape, latents.dtype)
        variables = self.model.init(key, self._given(batch, latents))
        return {**variables, "frozen": {**variables["frozen"], **frozen}}

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """As :meth:`DiffusionModel.loss`, of latents."""
        return self.model.loss(variables, keys, self._given(batch, self.latents(variables, batch)))

    def latents(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> jax.Array:
        """The latents [b, frames, channels] of a batch: its own, or those of its sound."""
        if "latent" in batch:
            return batch["latent"]
        latent, _ = self.autoencoder.encode(variables["frozen"]["autoencoder"], batch["audio"])
        return jax.lax.stop_gradient(latent)

    def _given(self, batch: dict[str, jax.Array], latents: jax.Array) -> dict[str, jax.Array]:
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": latents}
