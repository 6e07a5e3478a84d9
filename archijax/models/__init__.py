"""Models: a net and what it is trained and used for, composed; each with the methods ``init`` and ``loss``."""

from .autoencoder import AutoEncoder, MagnitudeAutoEncoder
from .autoregressive import DiffusionAR
from .diffusion import DiffusionModel, check_source, per_item, step_keys
from .diffusion_autoencoder import DiffusionAE
from .latent import LatentDiffusion
from .upsampler import DiffusionUpsampler
from .vocoder import DiffusionVocoder

__all__ = [
    "AutoEncoder",
    "DiffusionAE",
    "DiffusionAR",
    "DiffusionModel",
    "DiffusionUpsampler",
    "DiffusionVocoder",
    "LatentDiffusion",
    "MagnitudeAutoEncoder",
    "check_source",
    "per_item",
    "step_keys",
]
