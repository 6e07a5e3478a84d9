"""Defines encoders, decoders and bottlenecks, and the losses and discriminators that train them."""

from archijax.codecs.adversaries import Adversary
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.bottlenecks import (
    BitcodesBottleneck,
    GaussianBottleneck,
    NoiserBottleneck,
    TanhBottleneck,
    VariationalBottleneck,
)
from archijax.codecs.decoders import Decoder1d
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import Encoder1d, ME1d, MelE1d
from archijax.codecs.frames import FrameAutoEncoder
from archijax.codecs.quantizers import FiniteScalarQuantizer, VectorQuantizer
from archijax.codecs.streaming import decode_by_blocks, encode_by_blocks

__all__ = [
    "Adversary",
    "AutoEncoder1d",
    "BitcodesBottleneck",
    "Decoder1d",
    "Discriminator1d",
    "Encoder1d",
    "FiniteScalarQuantizer",
    "FrameAutoEncoder",
    "GaussianBottleneck",
    "MAE1d",
    "ME1d",
    "MelE1d",
    "NoiserBottleneck",
    "TanhBottleneck",
    "VariationalBottleneck",
    "VectorQuantizer",
    "decode_by_blocks",
    "encode_by_blocks",
]
