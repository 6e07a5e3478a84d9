"""Contains functions for the scaled latents of a frozen autoencoder, on which other models are trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from archijax.contract import Batch, Codec, ScaledCodec, Variables
from archijax.errors import InputError


def with_autoencoder(frozen: Variables | None, autoencoder: Codec, key: Key[Array, ""], batch: Batch) -> Variables:
    """Returns a copy of ``frozen``, a dict of pretrained parts, with the entry "autoencoder". If there is no such
    entry, the variables of the autoencoder are random.

    Raises:
        InputError: ``frozen`` has no "autoencoder", and the batch has no "audio".
    """
    frozen = dict(frozen or {})
    if "autoencoder" not in frozen:
        if "audio" not in batch:
            raise InputError("the batch has latents but no sound: pass the autoencoder's variables as frozen, or audio")
        frozen["autoencoder"] = autoencoder.init(key, {"audio": batch["audio"]})
    return frozen


def scaled(autoencoder: Codec, variables: Variables, batch: Batch) -> Float[Array, "b frames c"]:
    """Returns latents: the array "latent" of the batch, or else the encoded "audio".

    If the autoencoder has measured its latents in training, each channel is scaled to mean 0 and standard deviation 1.

    Args:
        variables: the variables of the model that contains the autoencoder.
    """
    own = variables["frozen"]["autoencoder"]
    if "latent" in batch:
        latent = jnp.asarray(batch["latent"])
    else:
        latent, _ = autoencoder.encode(own, jnp.asarray(batch["audio"]))
    if isinstance(autoencoder, ScaledCodec):
        mean, deviation = autoencoder.latent_scale(own)
        latent = (latent - mean) / deviation
    return jax.lax.stop_gradient(latent)


def unscaled(
    autoencoder: Codec, variables: Variables, latent: Float[Array | np.ndarray, "*shape c"]
) -> Float[Array, "*shape c"]:
    """Reverses the scaling of :func:`scaled`. The autoencoder can then decode the latents."""
    latent = jnp.asarray(latent)
    if not isinstance(autoencoder, ScaledCodec):
        return latent
    mean, deviation = autoencoder.latent_scale(variables["frozen"]["autoencoder"])
    return latent * deviation + mean
