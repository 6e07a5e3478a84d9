"""Contains the U-Net and its layers, attention, the diffusion transformer, the T5 encoder, and wrappers around nets."""

from archijax.nn.attention import Attention, CrossAttention, FeedForward, LinearAttention, LinearCrossAttention
from archijax.nn.conditioners import CategoryVector, Conditioners, NumberVector
from archijax.nn.conditioning import (
    AppendChannels,
    AppendPositions,
    ClassEmbedder,
    ClassifierFreeGuidance,
    EmbeddingFeatures,
    NumberEmbedder,
    TimeConditioning,
)
from archijax.nn.initialize import initialize
from archijax.nn.items import (
    AdaptiveConvNeXt,
    ConvNeXtV2,
    InjectChannels,
    Modulation,
    Resnet,
    SkipAdd,
    SkipConcat,
    SkipModulate,
)
from archijax.nn.numbers import Number, NumberConditioning
from archijax.nn.resampling import Downsample, UpsampleNearest, UpsampleTranspose
from archijax.nn.t5 import T5Config, T5Encoder
from archijax.nn.transformer import DiffusionTransformer
from archijax.nn.transforms import LearnedTransform, Patching, STFTTransform
from archijax.nn.unet import Block, Context, UNet
from archijax.nn.unet_v0 import UNetV0

__all__ = [
    "AdaptiveConvNeXt",
    "AppendChannels",
    "AppendPositions",
    "Attention",
    "Block",
    "CategoryVector",
    "ClassEmbedder",
    "ClassifierFreeGuidance",
    "Conditioners",
    "Context",
    "ConvNeXtV2",
    "CrossAttention",
    "DiffusionTransformer",
    "Downsample",
    "EmbeddingFeatures",
    "FeedForward",
    "InjectChannels",
    "LearnedTransform",
    "LinearAttention",
    "LinearCrossAttention",
    "Modulation",
    "Number",
    "NumberConditioning",
    "NumberEmbedder",
    "NumberVector",
    "Patching",
    "Resnet",
    "STFTTransform",
    "SkipAdd",
    "SkipConcat",
    "SkipModulate",
    "T5Config",
    "T5Encoder",
    "TimeConditioning",
    "UNet",
    "UNetV0",
    "UpsampleNearest",
    "UpsampleTranspose",
    "initialize",
]
