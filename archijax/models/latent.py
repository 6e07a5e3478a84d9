"""Contains latent diffusion: a diffusion model that generates the latents of an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.arithmetic import ceil_div
from archijax.contract import Batch, Codec, DiffusionDecoder, LossResult, Variables
from archijax.keys import DECODER_NOISE, per_item, stream
from archijax.models.diffusion import DiffusionModel
from archijax.models.scaled import scaled, unscaled, with_autoencoder


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """A diffusion model of latents. A frozen autoencoder decodes the latents to sound (ArchiSound, chapter 5).

    A batch has "audio" [b, time, c], which the model encodes, or "latent" [b, frames, latent_channels], the latents of
    sounds that were encoded earlier. ``variables = model.init(key, {"audio": audio})`` makes the variables.
    ``model.sample(variables, key, shape=(b, time, c), num_steps=50)`` returns new sounds [b, time, c].

    Fields:
        model: the diffusion model of the latents, with its own conditioning, such as text.
        autoencoder: a codec that encodes sound to latents and decodes latents to sound, such as an
            :class:`AutoEncoder`, the result of ``archijax.configs.AutoEncoderConfig(...).build()``.
    """

    model: DiffusionModel
    autoencoder: Codec

    @property
    def latent_channels(self) -> int:
        """The number of channels of the latent."""
        return self.autoencoder.latent_channels

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per frame of the latent."""
        return self.autoencoder.downsample_factor

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables: a dict with the collections "params" and "frozen".

        Args:
            batch: an example of a training batch. Only the shapes of the batch matter, and one item (b = 1) is enough.
            frozen: a dict of pretrained parts: "autoencoder" (the variables of the autoencoder) and "embedder" (see
                :meth:`DiffusionModel.init`). Missing parts get random values.

        Raises:
            InputError: the batch has no "audio", and ``frozen`` has no "autoencoder".
        """
        key, autoencoder_key = jax.random.split(key)
        frozen = with_autoencoder(frozen, self.autoencoder, autoencoder_key, batch)
        latents = jnp.zeros_like(jax.eval_shape(lambda: self.latents({"frozen": frozen}, batch)))
        return self.model.init(key, self._conditioned(batch, latents), frozen)

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes :meth:`DiffusionModel.loss` for the latents of a batch."""
        return self.model.loss(variables, keys, self._conditioned(batch, self.latents(variables, batch)))

    def latents(self, variables: Variables, batch: Batch) -> Float[Array, "b frames {self.latent_channels}"]:
        """Returns the latents for the diffusion model: the array "latent" of the batch, or else the encoded "audio".

        If the autoencoder has measured its latents in training, each channel is scaled to mean 0 and standard deviation
        1.
        """
        return scaled(self.autoencoder, variables, batch)

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
        """Generates latents, and decodes each latent to a sound in one piece. For minutes of sound, use an
        :class:`archijax.Pipeline`, which decodes a latent in several pieces.

        Args:
            keys: one key per item of the batch [b], or a single key.
            shape: the shape (b, time, c) of the new sounds. c is the autoencoder's number of channels.
            num_steps: the number of denoising steps for the latents.
            decoder_steps: the number of denoising steps of an autoencoder that decodes by diffusion.
            settings: other arguments of :meth:`DiffusionModel.sample` for the latents, such as guidance and tokens.
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
        """Decodes latents to sounds of ``frames * downsample_factor`` samples. The latents must have the same scale as
        the result of :meth:`latents`.

        Args:
            noise: the standard normal noise for an autoencoder that decodes by diffusion, or None to draw the noise.
            num_steps: the number of denoising steps of an autoencoder that decodes by diffusion.
        """
        own, latent = variables["frozen"]["autoencoder"], self.unscaled(variables, latent)
        settings = {"num_steps": num_steps} if isinstance(self.autoencoder, DiffusionDecoder) else {}
        return self.autoencoder.decode(own, latent, noise, **settings)

    def unscaled(self, variables: Variables, latent: Float[Array | np.ndarray, "*shape c"]) -> Float[Array, "*shape c"]:
        """Reverses the scaling of :meth:`latents`. The autoencoder can then decode the latents."""
        return unscaled(self.autoencoder, variables, latent)

    def _conditioned(self, batch: Batch, latents: Float[Array, "b frames c"]) -> dict[str, Any]:
        rest = {name: value for name, value in batch.items() if name not in ("audio", "latent")}
        return {**rest, "audio": latents}
