"""Contains the models. A model combines nets with methods that train and use them, such as ``init`` and ``loss``."""

from archijax.models.autoencoder import AutoEncoder, MagnitudeAutoEncoder
from archijax.models.autoregressive import DiffusionAR
from archijax.models.decoding import decode_by_diffusion, reconstruct
from archijax.models.diffusion import DiffusionModel
from archijax.models.diffusion_autoencoder import DiffusionAE
from archijax.models.latent import LatentDiffusion
from archijax.models.upsampler import DiffusionUpsampler
from archijax.models.vocoder import DiffusionVocoder

__all__ = [
    "AutoEncoder",
    "DiffusionAE",
    "DiffusionAR",
    "DiffusionModel",
    "DiffusionUpsampler",
    "DiffusionVocoder",
    "LatentDiffusion",
    "MagnitudeAutoEncoder",
    "decode_by_diffusion",
    "reconstruct",
]
