"""Contains the configuration of models of endless sound."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from archijax.arithmetic import ceil_div
from archijax.configs.base import ModelConfig
from archijax.configs.nets import TransformConfig, UNetConfig, positive
from archijax.diffusion import rectified_flow, v_diffusion
from archijax.errors import InputError
from archijax.models import DiffusionAR
from archijax.nn.conditioning import AppendChannels
from archijax.nn.unet_v0 import UNetV0


@dataclass(frozen=True)
class AutoregressiveConfig(ModelConfig):
    """Configures a model of endless sound without text: autoregressive diffusion with a U-Net.

    Example: ``AutoregressiveConfig(UNetConfig(channels=(8, 16), factors=(1, 2), items=(1, 1)), channels=1, length=1024,
    num_splits=4)``.
    """

    unet: UNetConfig
    """The U-Net. Skip connections are concatenated, because modulation needs one noise level for all samples."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """The number of channels: 1 for mono, 2 for stereo."""
    length: int = 2**18
    """The number of samples that the net sees at once, a multiple of num_splits."""
    num_splits: int = 16
    """The number of splits into which the length is divided, an even number. Each split has its own noise level."""
    transform: TransformConfig | None = None
    """A filter bank, patches or an STFT around the net. With None, the net works on samples."""
    method: Literal["v", "flow"] = "v"
    """The diffusion method: v-diffusion (v) or rectified flow (flow)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the computation. The parameters are float32."""
    remat: bool = False
    """Whether the backward pass recomputes activations, to save memory."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length")
        if any(self.unet.cross_attentions):
            raise InputError("unet.cross_attentions needs an embedding, but endless sound has none: leave it out")
        if self.method not in ("v", "flow"):
            raise InputError(f'method is "{self.method}": v and flow are known')

    def build(self) -> DiffusionAR:
        """Builds the model. Raises InputError if settings do not fit each other."""
        dtype = jnp.dtype(self.dtype)
        settings = {f.name: getattr(self.unet, f.name) for f in dataclasses.fields(UNetConfig)}
        net = UNetV0(**settings, use_time_conditioning=False, use_modulation=False, remat=self.remat, dtype=dtype)
        if self.transform is not None:
            net = self.transform.wrap(net, dtype)
        if self.length % net.length_multiple:
            raise InputError(
                f"length {self.length} is not a multiple of {net.length_multiple} (factors and stride): "
                f"use {ceil_div(self.length, net.length_multiple) * net.length_multiple}"
            )
        process = v_diffusion() if self.method == "v" else rectified_flow()
        return DiffusionAR(AppendChannels(net), self.length, self.num_splits, process)
