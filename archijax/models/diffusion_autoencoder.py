"""The diffusion autoencoder: an encoder makes sound short, diffusion makes sound of it again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from archijax.codecs.encoders import Encoder1d
from archijax.errors import InputError
from archijax.keys import ENCODER, per_item, stream
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel
from archijax.nn.initialize import initialize


@dataclass(frozen=True, eq=False)
class DiffusionAE:
    """Latents of an encoder, injected into the net that decodes them by diffusion (thesis, section 5.4).

    Fields:
        model: on a net that injects the latent's channels at `inject_depth`, such as
            ``UNetV0(..., context_channels=(0, 0, 32))``.
        encoder: from sound to latents, with its bottleneck.
        inject_depth: where the net has as many positions as the latent has frames.
        latent_factor: samples per frame of the latent; None is the encoder's.
        adapter: a fixed pair of functions (encode, decode) between sound and what is diffused, or None; the encoder
            sees the sound itself.
        channels: of the sound that it decodes to, where no noise says so.
    """

    model: DiffusionModel
    encoder: Encoder1d
    inject_depth: int
    latent_factor: int | None = None
    adapter: tuple[Any, Any] | None = None
    channels: int = 1

    frames: ClassVar[str] = "latent"

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
        model = self.model.init(net_key, self._conditioned(batch, jax.numpy.zeros(latent.shape, latent.dtype)), frozen)
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
        encoder_keys = stream(keys, ENCODER)
        (latent, info), state = self.encoder.apply(
            self._variables(variables), audio, keys=encoder_keys, train=True, mutable=["state"]
        )
        diffusion, (by_noise, _) = self.model.loss(variables, keys, self._conditioned(batch, latent))
        known = {name: info[name] for name in ("kl", "commitment") if name in info}
        metrics = {"diffusion": diffusion, **known, **by_noise}
        return diffusion + info["loss"], (metrics, {"encoder": state["state"]} if state else {})

    def loss_given(
        self, variables: dict[str, Any], batch: dict[str, jax.Array], latent: jax.Array, *draws: jax.Array
    ) -> jax.Array:
        """The diffusion loss as a function of the latent and its draws, see :meth:`DiffusionModel.loss_given`."""
        return self.model.loss_given(variables, self._conditioned(batch, latent), *draws)

    def encode(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(latents [b, frames, channels] of sounds [b, time, c], what the bottleneck reports); keys [b] if it draws."""
        return self.encoder.apply(self._variables(variables), audio, keys=keys)

    def decode(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array | None = None, **settings: Any
    ) -> jax.Array:
        """Sounds [b, frames * downsample_factor, channels] of latents [b, frames, c], see :func:`decode_by_diffusion`.

        With an adapter the noise is shaped as what is diffused.
        """
        return decode_by_diffusion(self, variables, frames, noise, channels=self.channels, **settings)

    def prepare(
        self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, Any]]:
        """(noise, conditioning) of the diffusion model: the latents, where they join its net."""
        # The last frame is repeated until the net divides the sound.
        multiple = self.model.length_multiple
        extra = -frames.shape[1] % (multiple // math.gcd(multiple, self.samples_per_frame))
        frames = jax.numpy.pad(frames, ((0, 0), (0, extra), (0, 0)), mode="edge")
        return noise, {**batch, "channels": self._injected(frames)}

    def finish(self, x: jax.Array, frames: jax.Array) -> jax.Array:
        """Sounds of what the diffusion model makes."""
        return x if self.adapter is None else self.adapter[1](x)

    def _injected(self, latent: jax.Array) -> list[jax.Array | None]:
        # One entry per depth, the last for `inject_depth`.
        return [None] * self.inject_depth + [latent]

    def _conditioned(self, batch: dict[str, jax.Array], latent: jax.Array) -> dict[str, Any]:
        audio = batch["audio"]
        diffused = audio if self.adapter is None else self.adapter[0](audio)
        if diffused.shape[1] != latent.shape[1] * self.samples_per_frame:
            raise InputError(
                f"{audio.shape[1]} samples give {latent.shape[1]} frames of {self.samples_per_frame}: a length that is "
                "a multiple of it is needed"
            )
        return {**batch, "audio": diffused, "channels": self._injected(latent)}

    def _variables(self, variables: dict[str, Any]) -> dict[str, Any]:
        state = variables.get("state", {})
        own = {"params": variables["params"]["encoder"]}
        return {**own, "state": state["encoder"]} if "encoder" in state else own
