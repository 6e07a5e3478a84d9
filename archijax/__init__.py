"""Generates audio with diffusion models in JAX and Flax: nets, diffusion, sampling, codecs, training and a pipeline.

Channels are the last axis of an array: sound is float32 [batch, time, channels] in [-1, 1]. The most used functions and
classes are in this module. The other functions and classes are in the namespaces `nn`, `diffusion`, `sampling`,
`audio`, `codecs`, `models`, `training` and `configs`.
"""

import importlib
from typing import Any

from archijax import audio, codecs, configs, diffusion, models, nn, sampling
from archijax.diffusion import GaussianProcess, ddpm, edm, rectified_flow, v_diffusion
from archijax.errors import InputError
from archijax.models import (
    AutoEncoder,
    DiffusionAE,
    DiffusionAR,
    DiffusionModel,
    DiffusionUpsampler,
    DiffusionVocoder,
    LatentDiffusion,
    MagnitudeAutoEncoder,
)
from archijax.nn import Block, DiffusionTransformer, LearnedTransform, Patching, STFTTransform, UNet, UNetV0
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pretrained import from_pretrained, save_pretrained
from archijax.sampling import DDIM, DDPM, DPMSolverPP, Guidance, Heun, Inpaint

__all__ = [
    "DDIM",
    "DDPM",
    "AutoEncoder",
    "Block",
    "DPMSolverPP",
    "DiffusionAE",
    "DiffusionAR",
    "DiffusionModel",
    "DiffusionTransformer",
    "DiffusionUpsampler",
    "DiffusionVocoder",
    "GaussianProcess",
    "Guidance",
    "Heun",
    "Inpaint",
    "InputError",
    "LatentDiffusion",
    "LearnedTransform",
    "MagnitudeAutoEncoder",
    "Patching",
    "Pipeline",
    "STFTTransform",
    "SampleSettings",
    "UNet",
    "UNetV0",
    "audio",
    "codecs",
    "configs",
    "ddpm",
    "diffusion",
    "edm",
    "from_pretrained",
    "models",
    "nn",
    "rectified_flow",
    "sampling",
    "save_pretrained",
    "training",
    "v_diffusion",
]


def __getattr__(name: str) -> Any:
    # Training imports Orbax, which takes seconds.
    if name == "training":
        return importlib.import_module("archijax.training")
    raise AttributeError(f"module 'archijax' has no attribute {name!r}")
