"""Audio generation with diffusion models in JAX and Flax: U-Nets, diffusion, sampling, audio transforms.

Arrays are channels last: sound is float32 [batch, time, channels] in [-1, 1].
"""

from archijax.configs import (
    AutoEncoderConfig,
    BottleneckConfig,
    CoderConfig,
    DiffusionAEConfig,
    DiffusionConfig,
    EncoderConfig,
    LatentConfig,
    LearnedTransformConfig,
    MagnitudeAutoEncoderConfig,
    OobleckConfig,
    PatchingConfig,
    StableAudioConfig,
    STFTConfig,
    TextConfig,
    TransformerConfig,
    UNetConfig,
    UpsamplerConfig,
    VocoderConfig,
)
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
from archijax.nn.attention import Attention, CrossAttention, FeedForward, LinearAttention, LinearCrossAttention
from archijax.nn.conditioning import (
    AppendChannels,
    ClassEmbedder,
    ClassifierFreeGuidance,
    EmbeddingFeatures,
    NumberEmbedder,
    TimeConditioning,
)
from archijax.nn.initialize import initialize
from archijax.nn.items import (
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
from archijax.sampling import (
    DDIM,
    DDPM,
    DPMSolverPP,
    Guidance,
    Heun,
    Inpaint,
)

__all__ = [
    "DDIM",
    "DDPM",
    "AppendChannels",
    "Attention",
    "AutoEncoder",
    "AutoEncoderConfig",
    "Block",
    "BottleneckConfig",
    "ClassEmbedder",
    "ClassifierFreeGuidance",
    "CoderConfig",
    "Context",
    "ConvNeXtV2",
    "CrossAttention",
    "DPMSolverPP",
    "DiffusionAE",
    "DiffusionAEConfig",
    "DiffusionAR",
    "DiffusionConfig",
    "DiffusionModel",
    "DiffusionTransformer",
    "DiffusionUpsampler",
    "DiffusionVocoder",
    "Downsample",
    "EmbeddingFeatures",
    "EncoderConfig",
    "FeedForward",
    "GaussianProcess",
    "Guidance",
    "Heun",
    "InjectChannels",
    "Inpaint",
    "InputError",
    "LatentConfig",
    "LatentDiffusion",
    "LearnedTransform",
    "LearnedTransformConfig",
    "LinearAttention",
    "LinearCrossAttention",
    "MagnitudeAutoEncoder",
    "MagnitudeAutoEncoderConfig",
    "Modulation",
    "Number",
    "NumberConditioning",
    "NumberEmbedder",
    "OobleckConfig",
    "Patching",
    "PatchingConfig",
    "Resnet",
    "STFTConfig",
    "STFTTransform",
    "SkipAdd",
    "SkipConcat",
    "SkipModulate",
    "StableAudioConfig",
    "T5Config",
    "T5Encoder",
    "TextConfig",
    "TimeConditioning",
    "TransformerConfig",
    "UNet",
    "UNetConfig",
    "UNetV0",
    "UpsampleNearest",
    "UpsampleTranspose",
    "UpsamplerConfig",
    "VocoderConfig",
    "ddpm",
    "edm",
    "initialize",
    "rectified_flow",
    "v_diffusion",
]
