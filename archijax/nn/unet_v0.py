"""Builds the U-Net of audio-diffusion-pytorch: one function makes the blocks, the items and the conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from archijax.errors import InputError
from archijax.nn.attention import Attention, CrossAttention
from archijax.nn.conditioning import AppendPositions, ClassifierFreeGuidance, EmbeddingFeatures, TimeConditioning
from archijax.nn.items import AdaptiveConvNeXt, ConvNeXtV2, InjectChannels, Modulation, Resnet, SkipConcat, SkipModulate
from archijax.nn.resampling import Downsample, UpsampleNearest
from archijax.nn.unet import Block, UNet


def UNetV0(
    *,
    channels: Sequence[int],
    factors: Sequence[int],
    items: Sequence[int],
    attentions: Sequence[int] | None = None,
    cross_attentions: Sequence[int] | None = None,
    context_channels: Sequence[int] | None = None,
    attention_features: int | None = None,
    attention_heads: int | None = None,
    embedding_features: int | None = None,
    item: Literal["resnet", "convnext", "adaptive"] = "resnet",
    linear_attention: bool = False,
    positions: int = 0,
    resnet_groups: int = 8,
    use_modulation: bool = True,
    modulation_features: int = 1024,
    embedding_max_length: int | None = None,
    use_time_conditioning: bool = True,
    use_embedding_cfg: bool = False,
    use_embedding_features: bool = False,
    out_channels: int | None = None,
    attention_implementation: str | None = None,
    remat: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> nn.Module:
    """Builds the U-Net of audio-diffusion-pytorch. Example: ``UNetV0(channels=(8, 16), factors=(1, 2), items=(1, 1))``.

    Args:
        channels: the number of channels of each depth, outermost first.
        factors: the downsampling factor of each depth. The product of the factors must divide the length of x.
        items: how often each depth repeats its group of items. A group is a resnet, then modulation, injected channels,
            attention and cross-attention. The other arguments decide which of these items a group contains.
        attentions, cross_attentions: the numbers of attention and cross-attention items in the group of each depth, or
            None for 0 at every depth.
        context_channels: the number of channels that each depth injects from the argument ``channels`` of the net, or
            None for 0 at every depth.
        attention_features: the number of features of each attention head. Nets with attention need attention_features
            and attention_heads.
        attention_heads: the number of attention heads.
        embedding_features: the number of features of each token of the embedding. Nets with cross-attention or
            use_embedding_cfg need embedding_features.
        item: the first item of a group: "resnet", "convnext" (a ConvNeXt V2 block) or "adaptive" (a ConvNeXt block with
            an adaptive norm). A group with "adaptive" has no separate modulation.
        positions: the number of wavelengths of :class:`AppendPositions`, for x with one position axis. With 0, the net
            receives no positions.
        linear_attention: whether attention is linear.
        resnet_groups: the number of groups of the group norms, a divisor of the number of channels of every depth.
        use_modulation: whether the features modulate items and skips. If use_modulation is False, skips are
            concatenated.
        modulation_features: the number of features that are computed from ``time``.
        embedding_max_length: the largest number of tokens in an embedding. Nets with use_embedding_cfg need
            embedding_max_length.
        use_time_conditioning: whether features are computed from ``time``. Time conditioning needs use_modulation=True.
            Without time conditioning, the net takes no time.
        use_embedding_cfg: whether :class:`ClassifierFreeGuidance` wraps the net. The net then needs an embedding.
        use_embedding_features: whether a linear map of the mean of the embedding's tokens is added to the features.
        out_channels: the number of channels of the result, or None for as many channels as x.
        attention_implementation: "xla", "cudnn" or None, see :class:`Attention`.
        remat, dtype: see :class:`UNet`.

    Returns:
        A Flax module. ``net.init(key, x, time)`` with x [b, *positions, c] and time [b] makes the variables.
        ``net.apply(variables, x, time, features=..., embedding=..., channels=...)`` returns [b, *positions,
        out_channels]. features are [b, modulation_features], see :class:`Context`. init takes the same arrays as
        apply. Nets with cross-attention, use_embedding_cfg or use_embedding_features need embedding. Nets with
        context_channels need channels. Nets with modulation but without time conditioning need features.

    Raises:
        InputError: a list has a wrong length, a value is not allowed, or a required setting is missing.
    """
    depths = len(channels)
    per_depth = {
        "channels": channels,
        "factors": factors,
        "items": items,
        "attentions": attentions or (0,) * depths,
        "cross_attentions": cross_attentions or (0,) * depths,
        "context_channels": context_channels or (0,) * depths,
    }
    _check_per_depth(per_depth, resnet_groups, modulation_features)
    attends = any(per_depth["attentions"]) or any(per_depth["cross_attentions"])
    for name, value in (("attention_features", attention_features), ("attention_heads", attention_heads)):
        if attends and not value:
            raise InputError(f"attention needs {name}, but it is {value}: use a positive number")
    if any(per_depth["cross_attentions"]) and not embedding_features:
        raise InputError(f"cross-attention needs embedding_features, but it is {embedding_features}")
    if use_time_conditioning and not use_modulation:
        raise InputError("use_time_conditioning needs use_modulation=True, because the net uses time by modulation")
    for name, value in (("embedding_max_length", embedding_max_length), ("embedding_features", embedding_features)):
        if use_embedding_cfg and not value:
            raise InputError(f"use_embedding_cfg needs {name}, but it is {value}")

    attention = {"head_features": attention_features, "num_heads": attention_heads, "linear": linear_attention}
    attention |= {"implementation": attention_implementation, "dtype": dtype}
    first = {
        "resnet": Resnet(resnet_groups, dtype=dtype),
        "convnext": ConvNeXtV2(dtype=dtype),
        "adaptive": AdaptiveConvNeXt(dtype=dtype),
    }[item]
    blocks = []
    for width, factor, repeats, selfs, crosses, injected in zip(*per_depth.values(), strict=True):
        group = [first, *[Modulation(dtype=dtype)] * (use_modulation and item != "adaptive")]
        group += [InjectChannels(injected, dtype=dtype)] * (injected > 0)
        group += [Attention(**attention)] * selfs if selfs else []
        group += [CrossAttention(**attention, embedding_features=embedding_features)] * crosses if crosses else []
        blocks.append(Block(width, factor, items=tuple(group * repeats)))
    net: nn.Module = UNet(
        blocks=tuple(blocks),
        out_channels=out_channels,
        downsample=Downsample(dtype=dtype),
        upsample=UpsampleNearest(dtype=dtype),
        skip=SkipModulate(dtype=dtype) if use_modulation else SkipConcat(dtype=dtype),
        remat=remat,
        dtype=dtype,
    )
    if positions:
        net = AppendPositions(net, positions)
    if use_embedding_features:
        net = EmbeddingFeatures(net)
    if use_embedding_cfg:
        net = ClassifierFreeGuidance(net, max_length=embedding_max_length, features=embedding_features)
    if use_time_conditioning:
        net = TimeConditioning(net, features=modulation_features)
    return net


def _check_per_depth(per_depth: Mapping[str, Sequence[int]], resnet_groups: int, modulation_features: int) -> None:
    """Raises InputError if a list has a wrong length, or an entry is not allowed."""
    channels = per_depth["channels"]
    for name, values in per_depth.items():
        if len(values) != len(channels):
            raise InputError(
                f"{name} has {len(values)} entries and channels has {len(channels)}: both need one per depth"
            )
        if any(value < (1 if name in ("channels", "factors") else 0) for value in values):
            raise InputError(f"{name} is {tuple(values)}: entries must be positive whole numbers")
    for name, value in (("resnet_groups", resnet_groups), ("modulation_features", modulation_features)):
        if value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1")
    for width in channels:
        if width % resnet_groups:
            raise InputError(
                f"channels {width} do not divide into resnet_groups {resnet_groups}: use a multiple of {resnet_groups}"
            )
