"""The configuration of endless sound."""

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
    """Autoregressive diffusion on a U-Net: sound of one kind that goes on without an end."""

    unet: UNetConfig
    """The net, whose skips are joined and not modulated: it is told the noise level of every sample, not one time."""
    sample_rate: int = 48_000
    """Samples per second."""
    channels: int = 2
    """1 for mono, 2 for stereo."""
    length: int = 2**18
    """Samples that the net sees at once."""
    num_splits: int = 16
    """Parts of these, an even number: as many have a noise level of their own, and are finished one at a time."""
    transform: TransformConfig | None = None
    """Filter bank, patches or STFT around the net, or None: the net works on samples."""
    method: Literal["v", "flow"] = "v"
    """Diffusion method: v-diffusion, or rectified flow."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters are float32."""
    remat: bool = False
    """Recompute activations in the backward pass, for less memory."""

    def __post_init__(self):
        positive(self, "model", "sample_rate", "channels", "length")
        if any(self.unet.cross_attentions):
            raise InputError("unet.cross_attentions reads an embedding, but endless sound follows none: leave it out")
        if self.method not in ("v", "flow"):
            raise InputError(f'method is "{self.method}": v and flow are known')

    def build(self) -> DiffusionAR:
        """The model. Raises InputError: settings that do not fit each other."""
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
