"""The diffusion autoencoder: an encoder makes sound short, diffusion makes sound of it again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax

from archijax.codecs.encoders import Encoder1d
from archijax.errors import InputError
from archijax.models.diffusion import DiffusionModel, per_item
from archijax.nn.initialize import initialize


@dataclass(frozen=True, eq=False)
class DiffusionAE:
    """Latents of an encoder, injected into the net that decodes them by diffusion (thesis, section 5.3).

    Fields:
        model: on a net that injects the latent's channels at `inject_depth`, such as
            ``UNetV0(..., context_channels=(0, 0, 32))``.
        encoder: from sound to latents, with its bottleneck.
        inject_depth: where the net has as many positions as the latent has frames.
        latent_factor: samples per frame of the latent; None is the encoder's.
        adapter: a fixed pair of functions (encode, decode) between sound and what is diffused, or None; the encoder
            sees the sound itself.
    """

    model: DiffusionModel
    encoder: Encoder1d
    inject_depth: int
    latent_factor: int | None = None
    adapter: tuple[Any, Any] | None = None

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.encoder.latent_channels

    @property
    def downsample_factor(self) -> int:
        """Samples of sound per frame of the latent."""
        return self.encoder.downsample_factor

    @property
    def samples_per_frame(self) -> int:
        """Samples of what is diffused per frame of the latent."""
        return self.latent_factor or self.encoder.downsample_factor

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one: "audio" [b, time, c]."""
        net_key, encoder_key = jax.random.split(key)
        variables = initialize(self.encoder.init, encoder_key, batch["audio"])
        encoder = {"params": {"encoder": variables["params"]}, "state": {}}
        if "state" in variables:
            encoder["state"] = {"encoder": variables["state"]}
        latent, _ = jax.eval_shape(lambda: self.encode(encoder, batch["audio"]))
        model = self.model.init(net_key, self._given(batch, jax.numpy.zeros(latent.shape, latent.dtype)), frozen)
        return {
            "params": {**model["params"], **encoder["params"]}, "frozen": model["frozen"], "state": encoder["state"],
        }  # fmt: skip

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """The diffusion loss given the latent of each item, and the bottleneck's.

        Returns:
            (loss, (metrics with "diffusion" and what the bottleneck reports, new_state)).
        """
        audio = batch["audio"]
        keys = per_item(keys, len(audio))
        # Not 0 to 2: these are what split(key, 3) gives, from which the diffusion draws.
        encoder_keys = jax.vmap(lambda key: jax.random.fold_in(key, 3))(keys)
        (latent, info), state = self.encoder.apply(
            self._variables(variables), audio, keys=encoder_keys, train=True, mutable=["state"]
        )
        diffusion, (by_noise, _) = self.model.loss(variables, keys, self._given(batch, latent))
        known = {name: info[name] for name in ("kl", "commitment") if name in info}
        metrics = {"diffusion": diffusion, **known, **by_noise}
        return diffusion + info["loss"], (metrics, {"encoder": state["state"]} if state else {})

    def loss_given(
        self, variables: dict[str, Any], batch: dict[str, jax.Array], latent: jax.Array, *draws: jax.Array
    ) -> jax.Array:
        """The diffusion loss as a function of the latent and its draws, see :meth:`DiffusionModel.loss_given`."""
        return self.model.loss_given(variables, self._given(batch, latent), *draws)

    def encode(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(latents [b, frames, channels] of sounds [b, time, c], what the bottleneck reports); keys [b] if it draws."""
        return self.encoder.apply(self._variables(variables), audio, keys=keys)

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
        """Sounds [b, frames * samples_per_frame, channels] of latents [b, frames, c].

        Args:
            settings: of :meth:`DiffusionModel.sample`, but not return_estimates.
        """
        shape = (len(latent), latent.shape[1] * self.samples_per_frame, channels)
        latent = self.fitted(latent)
        made = self.model.sample(
            variables, keys, shape=shape, num_steps=num_steps, channels=self.injected(latent), **settings
        )
        return made if self.adapter is None else self.adapter[1](made)

    def reconstruct(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None, num_steps: int = 50
    ) -> jax.Array:
        """Sounds [b, time, c] encoded and decoded; keys as for :meth:`decode`, by default always the same."""
        latent, _ = self.encode(variables, audio)
        keys = jax.random.key(0) if keys is None else keys
        return self.decode(variables, keys, latent, num_steps=num_steps, channels=audio.shape[-1])

    def fitted(self, latent: jax.Array) -> jax.Array:
        """Latents [b, frames, c] with their last frame repeated until the net divides their sound."""
        multiple = getattr(self.model.net, "length_multiple", 1)
        extra = -latent.shape[1] % (multiple // math.gcd(multiple, self.samples_per_frame))
        return jax.numpy.pad(latent, ((0, 0), (0, extra), (0, 0)), mode="edge")

    def injected(self, latent: jax.Array) -> list[jax.Array | None]:
        """Latents [b, frames, c] as the net is given them: one entry per depth, the last for `inject_depth`."""
        return [None] * self.inject_depth + [latent]

    def _given(self, batch: dict[str, jax.Array], latent: jax.Array) -> dict[str, Any]:
        audio = batch["audio"]
        diffused = audio if self.adapter is None else self.adapter[0](audio)
        if diffused.shape[1] != latent.shape[1] * self.samples_per_frame:
            raise InputError(
                f"{audio.shape[1]} samples give {latent.shape[1]} frames of {self.samples_per_frame}: a length that is "
                "a multiple of it is needed"
            )
        return {**batch, "audio": diffused, "channels": self.injected(latent)}

    def _variables(self, variables: dict[str, Any]) -> dict[str, Any]:
        state = variables.get("state", {})
        own = {"params": variables["params"]["encoder"]}
        return {**own, "state": state["encoder"]} if "encoder" in state else own
