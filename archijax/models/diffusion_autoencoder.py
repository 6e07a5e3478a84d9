"""Contains the diffusion autoencoder: an encoder makes latents, and a diffusion model decodes the latents."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.codecs.encoders import Encoder1d
from archijax.codecs.quantizers import over_axis
from archijax.contract import Batch, Codec, LossResult, Variables
from archijax.errors import InputError
from archijax.keys import ENCODER, per_item, stream
from archijax.models.decoding import decode_by_diffusion
from archijax.models.diffusion import DiffusionModel
from archijax.models.scaled import scaled, unscaled, with_autoencoder
from archijax.nn.initialize import initialize


@dataclass(frozen=True, eq=False)
class DiffusionAE:
    """An autoencoder whose decoder is a diffusion model, conditioned on the latent (ArchiSound, section 5.4).

    ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c] makes the variables. ``latent, _ =
    model.encode(variables, audio)`` gives a latent [b, time / downsample_factor, latent_channels].
    ``model.decode(variables, latent, num_steps=50, keys=key)`` returns sounds [b, time, channels].

    Fields:
        model: a diffusion model whose net injects the channels of the latent at ``inject_depth``, such as
            ``DiffusionModel(net=UNetV0(..., context_channels=(0, 0, 32)))`` with inject_depth=2 and 32 latent channels.
        encoder: the encoder from sound to latents, with its bottleneck: an :class:`archijax.codecs.Encoder1d`,
            :class:`archijax.codecs.ME1d` or :class:`archijax.codecs.MelE1d`.
        inject_depth: a depth at which the net has one position per frame of the latent. 0 is the outermost depth.
        latent_factor: the number of positions of the diffused array per frame of the latent, or None for the encoder's
            downsample_factor.
        autoencoder: a trained codec, such as an :class:`AutoEncoder`, or None. With a codec, the codec's latents take
            the place of the sound: they are encoded and diffused, and the codec decodes the latents that diffusion has
            sampled. The variables of the codec are frozen.
        channels: the number of channels of the sound.

    Raises:
        InputError: the autoencoder makes more numbers than the sound has.
    """

    model: DiffusionModel
    encoder: Encoder1d
    inject_depth: int
    latent_factor: int | None = None
    autoencoder: Codec | None = None
    channels: int = 1

    frames: ClassVar[str] = "latent"

    def __post_init__(self):
        if self.autoencoder is None:
            return
        numbers, samples = self.autoencoder.latent_channels, self.autoencoder.downsample_factor * self.channels
        if numbers > samples:  # The noise of the sound gives the noise of the latents.
            raise InputError(
                f"the autoencoder makes {numbers} numbers of {samples} of the sound: it must not make more"
            )

    @property
    def latent_channels(self) -> int:
        """The number of channels of the latent."""
        return self.encoder.latent_channels

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per frame of the latent."""
        return self.encoder.downsample_factor * (1 if self.autoencoder is None else self.autoencoder.downsample_factor)

    @property
    def samples_per_frame(self) -> int:
        """The number of positions of the diffused array per frame of the latent."""
        return self.latent_factor or self.encoder.downsample_factor

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables: a dict with the collections "params", "frozen" and "state".

        Args:
            batch: a dict with "audio" [b, time, c], where downsample_factor divides time. Only the shapes matter, and
                one item (b = 1) is enough. With an autoencoder, the batch can have its "latent" in place of "audio".
            frozen: a dict of pretrained parts: "autoencoder" (the variables of the autoencoder, if there is one) and
                "embedder" (see :meth:`DiffusionModel.init`). Missing parts get random values.
        """
        net_key, encoder_key = jax.random.split(key)
        if self.autoencoder is not None:
            net_key, autoencoder_key = jax.random.split(net_key)
            frozen = with_autoencoder(frozen, self.autoencoder, autoencoder_key, batch)
        inputs = jnp.zeros_like(jax.eval_shape(lambda: self._inputs({"frozen": frozen}, batch)))
        variables = initialize(self.encoder.init, encoder_key, inputs)
        encoder = {"params": {"encoder": variables["params"]}, "state": {}}
        if "state" in variables:
            encoder["state"] = {"encoder": variables["state"]}
        latent = jnp.zeros_like(jax.eval_shape(lambda: self.encoder.apply(self._variables(encoder), inputs)[0]))
        model = self.model.init(net_key, self._conditioned(batch, inputs, latent), frozen)
        return {
            "params": {**model["params"], **encoder["params"]}, "frozen": model["frozen"], "state": encoder["state"],
        }  # fmt: skip

    def over(self, axis: str) -> DiffusionAE:
        """Returns a copy of the model for training with ``jax.pmap``, which splits batches over the axis called
        ``axis``. The vector quantizers of the copy average their statistics over this axis.
        """
        bottleneck = over_axis(self.encoder.bottleneck, axis)
        return dataclasses.replace(self, encoder=self.encoder.clone(bottleneck=bottleneck))

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the diffusion loss, conditioned on the latents of the sounds, plus the bottleneck's loss.

        Returns:
            (loss, (metrics, new_state)). The metrics are a dict of scalars: "diffusion" (the diffusion loss), the
            losses at five noise levels, and "saturated", "kl" and "commitment" if the bottleneck reports them.
        """
        inputs = self._inputs(variables, batch)
        keys = per_item(keys, len(inputs))
        encoder_keys = stream(keys, ENCODER)
        (latent, info), state = self.encoder.apply(
            self._variables(variables), inputs, keys=encoder_keys, train=True, mutable=["state"]
        )
        diffusion, (by_noise, _) = self.model.loss(variables, keys, self._conditioned(batch, inputs, latent))
        report = {name: jnp.mean(info[name]) for name in ("saturated", "kl", "commitment") if name in info}
        metrics = {"diffusion": diffusion, **report, **by_noise}
        return diffusion + info["loss"], (metrics, {"encoder": state["state"]} if state else {})

    def loss_given(
        self, variables: Variables, batch: Batch, latent: Float[Array, "b frames latent"], *draws: Array
    ) -> Float[Array, ""]:
        """Computes the diffusion loss for a given latent of the batch. ``draws`` are the arguments t, eps and
        masked of :meth:`DiffusionModel.loss_given`.
        """
        conditioned = self._conditioned(batch, self._inputs(variables, batch), latent)
        return self.model.loss_given(variables, conditioned, *draws)

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames {self.latent_channels}"], dict[str, Array]]:
        """Encodes sounds to a latent of ``time / downsample_factor`` frames. Returns (latent, info).

        ``info`` is a dict of arrays that the bottlenecks report. A bottleneck that predicts a Gaussian draws the latent
        with ``keys``, one per item [b]. If keys is None, the latent is the mean of the Gaussian.
        """
        return self.encoder.apply(self._variables(variables), self._inputs(variables, {"audio": audio}), keys=keys)

    def decode(
        self,
        variables: Variables,
        frames: Float[Array, "b frames latent"],
        noise: Float[Array, " b *positions"] | None = None,
        **settings: Any,
    ) -> Float[Array, "b time c"]:
        """Decodes a latent to sounds of ``frames * downsample_factor`` samples.

        Args:
            noise: the standard normal noise from which diffusion starts, in the shape of the sounds, or None to draw
                the noise.
            settings: other arguments of :func:`decode_by_diffusion`, such as ``num_steps=50, keys=key``.
        """
        return decode_by_diffusion(self, variables, frames, noise, channels=self.channels, **settings)

    def prepare(
        self, variables: Variables, frames: Float[Array, "b frames latent"], noise: Array, batch: Batch
    ) -> tuple[Array, dict[str, Any]]:
        """Returns (noise, conditioning) for the diffusion model. The conditioning consists of ``batch`` (other
        conditioning) and the entry "channels", which injects the latent at ``inject_depth``. The noise is unchanged, or
        has the shape of the autoencoder's latents.
        """
        if self.autoencoder is not None:
            # The same samples of noise give the same noise of latents, wherever a part of the sound begins.
            positions = noise.reshape(len(noise), frames.shape[1] * self.samples_per_frame, -1)
            noise = positions[..., : self.autoencoder.latent_channels]
        # The last frame is repeated until the length is a multiple of the net's length_multiple.
        multiple = self.model.length_multiple
        extra = -frames.shape[1] % (multiple // math.gcd(multiple, self.samples_per_frame))
        frames = jnp.pad(frames, ((0, 0), (0, extra), (0, 0)), mode="edge")
        return noise, {**batch, "channels": self._injected(frames)}

    def finish(
        self, variables: Variables, x: Array, frames: Float[Array, "b frames latent"]
    ) -> Float[Array, "b time c"]:
        """Returns x, the sounds that the diffusion model has sampled. An autoencoder decodes x to sounds."""
        if self.autoencoder is None:
            return x
        own = variables["frozen"]["autoencoder"]
        return self.autoencoder.decode(own, unscaled(self.autoencoder, variables, x))

    def _injected(self, latent: Float[Array, "b frames latent"]) -> list[Array | None]:
        # There is one entry per depth; the last one is for `inject_depth`.
        return [None] * self.inject_depth + [latent]

    def _inputs(self, variables: Variables, batch: Batch) -> Float[Array, "b positions c"]:
        """Returns the array that is encoded and diffused: the sound, or the latents of the autoencoder."""
        if self.autoencoder is None:
            return jnp.asarray(batch["audio"])
        return scaled(self.autoencoder, variables, batch)

    def _conditioned(self, batch: Batch, inputs: Array, latent: Float[Array, "b frames latent"]) -> dict[str, Any]:
        if inputs.shape[1] != latent.shape[1] * self.samples_per_frame:
            raise InputError(
                f"the length {inputs.shape[1]} gives {latent.shape[1]} frames of {self.samples_per_frame}: it must be "
                "a multiple of a frame"
            )
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": inputs, "channels": self._injected(latent)}

    def _variables(self, variables: Variables) -> Variables:
        state = variables.get("state", {})
        own = {"params": variables["params"]["encoder"]}
        return {**own, "state": state["encoder"]} if "encoder" in state else own
