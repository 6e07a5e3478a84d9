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
from .config import (
    AutoEncoderConfig,
    BottleneckConfig,
    CoderConfig,
    DiffusionConfig,
    LearnedTransformConfig,
    MagnitudeAutoEncoderConfig,
    TextConfig,
    UNetConfig,
)
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
from .models import AutoEncoder, DiffusionAR, DiffusionModel, MagnitudeAutoEncoder
from .sampling import DDIM, DDPM, DPMSolverPP, Guidance, Heun, Inpaint
from .t5 import T5Config, T5Encoder
from .transforms import LearnedTransform, Patching, STFTTransform
from .unet import Block, Context, UNet, UNetV0

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
    "DiffusionAR",
    "DiffusionConfig",
    "DiffusionModel",
    "Downsample",
    "EmbeddingFeatures",
    "FeedForward",
    "GaussianProcess",
    "Guidance",
    "Heun",
    "InjectChannels",
    "Inpaint",
    "InputError",
    "LearnedTransform",
    "LearnedTransformConfig",
    "LinearAttention",
    "LinearCrossAttention",
    "MagnitudeAutoEncoder",
    "MagnitudeAutoEncoderConfig",
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
