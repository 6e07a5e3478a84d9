"""Audio generation with diffusion models in JAX and Flax: U-Nets, diffusion, sampling, audio transforms.

Arrays are channels last: sound is float32 [batch, time, channels] in [-1, 1].
"""

from .attention import Attention, CrossAttention, FeedForward, LinearAttention, LinearCrossAttention
from .conditioning import (
    AppendChannels,
    ClassEmbedder,
    ClassifierFreeGuidance,
    EmbeddingFeatures,
    NumberEmbedder,
    TextConditioning,
    TimeConditioning,
)
from .config import DiffusionConfig, LearnedTransformConfig, TextConfig, UNetConfig
from .diffusion import GaussianProcess, ddpm, edm, rectified_flow, v_diffusion
from .errors import InputError
from .initialize import initialize
from .layers import (
    ConvNeXtV2,
    Downsample,
    InjectChannels,
    Modulation,
    Resnet,
    SkipAdd,
    SkipConcat,
    SkipModulate,
    UpsampleNearest,
    UpsampleTranspose,
)
from .models import DiffusionAR, DiffusionModel
from .t5 import T5Config, T5Encoder
from .transforms import LearnedTransform, Patching, STFTTransform
from .unet import Block, Context, UNet, UNetV0

__all__ = [
    "AppendChannels",
    "Attention",
    "Block",
    "ClassEmbedder",
    "ClassifierFreeGuidance",
    "Context",
    "ConvNeXtV2",
    "CrossAttention",
    "DiffusionAR",
    "DiffusionConfig",
    "DiffusionModel",
    "Downsample",
    "EmbeddingFeatures",
    "FeedForward",
    "GaussianProcess",
    "InjectChannels",
    "InputError",
    "LearnedTransform",
    "LearnedTransformConfig",
    "LinearAttention",
    "LinearCrossAttention",
    "Modulation",
    "NumberEmbedder",
    "Patching",
    "Resnet",
    "STFTTransform",
    "SkipAdd",
    "SkipConcat",
    "SkipModulate",
    "T5Config",
    "T5Encoder",
    "TextConditioning",
    "TextConfig",
    "TimeConditioning",
    "UNet",
    "UNetConfig",
    "UNetV0",
    "UpsampleNearest",
    "UpsampleTranspose",
    "ddpm",
    "edm",
    "initialize",
    "rectified_flow",
    "v_diffusion",
]
