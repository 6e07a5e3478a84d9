"""Lists the names that parameters have in the state_dicts of the PyTorch originals.

The originals are a-unet, audio-diffusion-pytorch 0.1, audio-encoders-pytorch and bitcodes-pytorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict

from archijax import models
from archijax.audio.mel import MelSpectrogram, mel_filters
from archijax.codecs import bottlenecks, discriminator
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.decoders import Decoder1d
from archijax.codecs.encoders import Encoder1d, ME1d, MelE1d
from archijax.convert.table import Entry, Path
from archijax.errors import InputError
from archijax.nn import attention, conditioning, transforms, unet
from archijax.nn.items import ConvNeXtV2, InjectChannels, Modulation, Resnet, SkipAdd, SkipConcat, SkipModulate
from archijax.nn.resampling import Downsample, UpsampleNearest, UpsampleTranspose


def entries(module: nn.Module | Any, params: Mapping[str, Any]) -> list[Entry]:
    """Returns the conversion table of a net, an encoder, or a model of :mod:`archijax.models`, with one Entry per
    parameter.

    Args:
        module: the net or the model, such as a result of :func:`archijax.UNetV0`. All of its submodules must exist in
            the originals.
        params: the parameters of the net or model (``variables["params"]``), or the shapes from ``jax.eval_shape``.

    Raises:
        InputError: the net has a module that the originals do not have.
    """
    flat = flatten_dict(params)
    # Some parameters exist only if the number of channels changes. The module alone does not know this.
    table = [entry for entry in _walk(module, (), "") if entry.path in flat or entry.constant is not None]
    if rest := flat.keys() - {entry.path for entry in table}:
        raise InputError(f"{'/'.join(min(rest))} is not part of the PyTorch originals: it has no name to convert to")
    dims = max((flat[entry.path].ndim - 2 for entry in table if entry.layout == "kernel"), default=1)
    return [
        entry if entry.constant is not None else dataclasses.replace(entry, dims=dims, shape=flat[entry.path].shape)
        for entry in table
    ]


def _walk(module: Any, path: Path, name: str) -> Iterator[Entry]:
    """Yields the entries of a module. All PyTorch names begin with the prefix ``name``, which ends in a dot or is
    empty."""
    names = _NAMES.get(type(module))
    if names is None:
        raise InputError(f"{type(module).__name__} is not part of the PyTorch originals: it has no names to convert to")
    yield from names(module, path, name)


def _affine(path: Path, *names: str, layout: str = "kernel", bias: bool = True) -> Iterator[Entry]:
    """Yields the entries for a linear map or a convolution."""
    yield Entry((*path, "kernel"), tuple(f"{n}weight" for n in names), layout)
    if bias:
        yield Entry((*path, "bias"), tuple(f"{n}bias" for n in names))


def _norm(path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "scale"), (f"{name}weight",))
    yield Entry((*path, "bias"), (f"{name}bias",))


def _resnet(module: Resnet, path: Path, name: str) -> Iterator[Entry]:
    for i in range(2):
        yield from _norm((*path, f"block_{i}", "norm"), f"{name}block.blocks.0.blocks.{i}.0.")
        yield from _affine((*path, f"block_{i}", "conv"), f"{name}block.blocks.0.blocks.{i}.2.")


def _attention(module: attention.Attention, path: Path, name: str) -> Iterator[Entry]:
    name += "blocks.0.block."
    yield from _norm((*path, "norm"), f"{name}norm.")
    yield from _norm((*path, "norm_context"), f"{name}norm_context.")
    for ours, theirs in (("to_q", "to_q."), ("to_kv", "to_kv."), ("to_out", "attention.blocks.0.")):
        yield from _affine((*path, ours), name + theirs, bias=False)


def _feed_forward(module: attention.FeedForward, path: Path, name: str) -> Iterator[Entry]:
    yield from _affine((*path, "expand"), f"{name}blocks.0.block.blocks.0.")
    yield from _affine((*path, "contract"), f"{name}blocks.0.block.blocks.2.")


def _convnext(module: ConvNeXtV2, path: Path, name: str) -> Iterator[Entry]:
    name += "block.blocks.0."
    yield from _affine((*path, "depthwise"), f"{name}0.")
    yield from _norm((*path, "norm"), f"{name}1.")
    yield from _affine((*path, "expand"), f"{name}2.")
    for parameter in ("gamma", "beta"):
        yield Entry((*path, "response_norm", parameter), (f"{name}4.{parameter}",), "channel")
    yield from _affine((*path, "contract"), f"{name}5.")


def _unet(module: unet.UNet, path: Path, name: str) -> Iterator[Entry]:
    name += "net."
    for depth, block in enumerate(module.blocks):
        up = block.items if block.items_up is None else block.items_up
        yield from _walk(block.downsample or module.downsample, (*path, f"down_{depth}", "downsample"),
                         f"{name}block.blocks.0.")  # fmt: skip
        for i, item in enumerate(block.items):
            yield from _walk(item, (*path, f"down_{depth}", f"items_{i}"), f"{name}block.blocks.{1 + i}.")
        inner = 1 + len(block.items)
        first_up = inner + (depth + 1 < len(module.blocks))
        for i, item in enumerate(up):
            yield from _walk(item, (*path, f"up_{depth}", f"items_{i}"), f"{name}block.blocks.{first_up + i}.")
        yield from _walk(block.upsample or module.upsample, (*path, f"up_{depth}", "upsample"),
                         f"{name}block.blocks.{first_up + len(up)}.")  # fmt: skip
        yield from _affine((*path, f"up_{depth}", "skip_adapter"), f"{name}skip_adapter.block.")
        yield from _walk(block.skip or module.skip, (*path, f"up_{depth}", "skip"), f"{name}skip.")
        name += f"block.blocks.{inner}."


def _time(module: conditioning.TimeConditioning, path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "embedder", "frequencies"), (f"{name}blocks.0.weights",))
    yield from _affine((*path, "embedder", "to_out"), f"{name}blocks.0.to_out.")
    yield from _affine((*path, "layer"), f"{name}blocks.1.blocks.0.0.", f"{name}blocks.1.blocks.1.0.")
    yield from _walk(module.net, (*path, "net"), f"{name}blocks.2.")


def _guidance(module: conditioning.ClassifierFreeGuidance, path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "fixed_embedding"), (f"{name}blocks.0.blocks.0.weight",))
    yield from _walk(module.net, (*path, "net"), f"{name}blocks.1.")


def _append(module: conditioning.AppendChannels, path: Path, name: str) -> Iterator[Entry]:
    yield from _walk(module.net, (*path, "net"), f"{name}blocks.0.")


def _learned_transform(module: transforms.LearnedTransform, path: Path, name: str) -> Iterator[Entry]:
    yield Entry((*path, "encode"), (f"{name}blocks.0.weight",), "kernel")
    yield Entry((*path, "decode"), (f"{name}blocks.1.weight",), "transposed")
    yield from _walk(module.net, (*path, "net"), f"{name}blocks.2.")


def _encoder_resnet(path: Path, name: str) -> Iterator[Entry]:
    """Yields the entries for a residual block, with the names that audio-encoders-pytorch uses."""
    for i in range(2):
        yield from _norm((*path, f"block_{i}", "norm"), f"{name}block{i + 1}.groupnorm.")
        yield from _affine((*path, f"block_{i}", "conv"), f"{name}block{i + 1}.project.")
    yield from _affine((*path, "skip"), f"{name}to_out.")


def _encoder(module: Encoder1d, path: Path, name: str) -> Iterator[Entry]:
    yield from _encoder_resnet((*path, "to_in", "resnet"), f"{name}to_in.block.")
    for i, count in enumerate(module.num_blocks):
        yield from _affine((*path, f"down_{i}", "downsample"), f"{name}downsamples.{i}.downsample.")
        for j in range(count):
            yield from _encoder_resnet((*path, f"down_{i}", f"items_{j}"), f"{name}downsamples.{i}.blocks.{j}.")
    yield from _affine((*path, "to_out"), f"{name}to_out.")
    for i, bottleneck in enumerate(module.bottleneck):
        yield from _walk(bottleneck, (*path, f"bottlenecks_{i}"), f"{name}bottlenecks.{i}.")


def _decoder(module: Decoder1d, path: Path, name: str) -> Iterator[Entry]:
    yield from _affine((*path, "to_in"), f"{name}to_in.")
    for i, (count, factor) in enumerate(zip(module.num_blocks, module.factors, strict=True)):
        for j in range(count):
            yield from _encoder_resnet((*path, f"up_{i}", f"items_{j}"), f"{name}upsamples.{i}.blocks.{j}.")
        layout = "kernel" if factor == 1 else "transposed"
        yield from _affine((*path, f"up_{i}", "upsample"), f"{name}upsamples.{i}.upsample.", layout=layout)
    yield from _encoder_resnet((*path, "to_out"), f"{name}to_out.block.")


def _autoencoder(module: AutoEncoder1d, path: Path, name: str) -> Iterator[Entry]:
    module = module.bind({})
    yield from _walk(module.encoder, (*path, "encoder"), f"{name}encoder.")
    yield from _walk(module.decoder, (*path, "decoder"), f"{name}decoder.")


def _window(length: int, name: str) -> Iterator[Entry]:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    yield Entry((), (name,), constant=window.astype(np.float32))


def _magnitude_encoder(module: ME1d, path: Path, name: str) -> Iterator[Entry]:
    yield from _encoder(module, path, name)
    yield from _window(module.stft.window_length or module.stft.n_fft, f"{name}stft.window")


def _magnitude_autoencoder(module: MAE1d, path: Path, name: str) -> Iterator[Entry]:
    yield from _autoencoder(module, path, name)
    yield from _window(module.stft.window_length or module.stft.n_fft, f"{name}stft.window")


def _mel_encoder(module: MelE1d, path: Path, name: str) -> Iterator[Entry]:
    yield from _encoder(module, path, name)
    yield from _mel(module.mel, f"{name}mel.")


def _mel(mel: MelSpectrogram, name: str) -> Iterator[Entry]:
    yield from _window(mel.window_length or mel.n_fft, f"{name}to_spectrogram.window")
    filters = mel_filters(mel.n_fft, mel.sample_rate, mel.n_mel_channels).astype(np.float32)
    yield Entry((), (f"{name}to_mel_scale.fb",), constant=filters)


# The models of the originals list their net three times.
_COPIES = ("net.", "diffusion.net.", "sampler.net.")


def _model(model: models.DiffusionModel, path: Path, name: str) -> Iterator[Entry]:
    for entry in _walk(model.net, (*path, "net"), ""):
        yield dataclasses.replace(entry, names=tuple(name + copy + own for copy in _COPIES for own in entry.names))


def _autoregressive(model: models.DiffusionAR, path: Path, name: str) -> Iterator[Entry]:
    # In the original, the model itself appends the noise level to the input, instead of a wrapper of the net.
    inner = dataclasses.replace(model, net=model.net.net)
    for entry in _model(inner, path, name):
        yield dataclasses.replace(entry, path=(*path, "net", *entry.path[len(path) :]))


def _diffusion_autoencoder(model: models.DiffusionAE, path: Path, name: str) -> Iterator[Entry]:
    yield from _model(model.model, path, name)
    yield from _walk(model.encoder, (*path, "encoder"), f"{name}encoder.")


def _vocoder(model: models.DiffusionVocoder, path: Path, name: str) -> Iterator[Entry]:
    yield from _model(model.model, path, name)
    yield Entry((*path, "to_flat", "kernel"), (f"{name}to_flat.weight",), "transposed")
    yield from _mel(model.mel, f"{name}to_spectrogram.")


_NAMES = {
    Resnet: _resnet,
    ConvNeXtV2: _convnext,
    Modulation: lambda m, path, name: _affine((*path, "to_scale_shift"), f"{name}blocks.0.block.blocks.0.1."),
    InjectChannels: lambda m, path, name: _affine((*path, "conv"), f"{name}block.blocks.0."),
    Downsample: lambda m, path, name: _affine(path, f"{name}block."),
    UpsampleNearest: lambda m, path, name: _affine((*path, "conv"), f"{name}block.1."),
    UpsampleTranspose: lambda m, path, name: _affine(path, f"{name}block.", layout="transposed"),
    SkipAdd: lambda m, path, name: iter(()),
    SkipConcat: lambda m, path, name: _affine((*path, "conv"), f"{name}blocks.0."),
    SkipModulate: lambda m, path, name: _affine((*path, "to_scale"), f"{name}blocks.0.1."),
    attention.Attention: _attention,
    attention.CrossAttention: _attention,
    attention.LinearAttention: _attention,
    attention.LinearCrossAttention: _attention,
    attention.FeedForward: _feed_forward,
    unet.UNet: _unet,
    conditioning.TimeConditioning: _time,
    conditioning.ClassifierFreeGuidance: _guidance,
    conditioning.AppendChannels: _append,
    transforms.LearnedTransform: _learned_transform,
    Encoder1d: _encoder,
    Decoder1d: _decoder,
    AutoEncoder1d: _autoencoder,
    ME1d: _magnitude_encoder,
    MAE1d: _magnitude_autoencoder,
    MelE1d: _mel_encoder,
    models.DiffusionModel: _model,
    models.DiffusionAR: _autoregressive,
    models.DiffusionUpsampler: lambda m, path, name: _model(m.model, path, name),
    models.DiffusionVocoder: _vocoder,
    models.DiffusionAE: _diffusion_autoencoder,
    models.AutoEncoder: lambda m, path, name: _walk(m.net, (*path, "net"), name),
    models.MagnitudeAutoEncoder: lambda m, path, name: _walk(m.net, (*path, "net"), name),
    discriminator.Discriminator1d: lambda m, path, name: _walk(m.encoder, (*path, "encoder"), f"{name}discriminator."),
    bottlenecks.TanhBottleneck: lambda m, path, name: iter(()),
    bottlenecks.NoiserBottleneck: lambda m, path, name: iter(()),
    bottlenecks.VariationalBottleneck: lambda m, path, name: _affine(
        (*path, "to_mean_and_std"), f"{name}to_mean_and_std."
    ),
    bottlenecks.BitcodesBottleneck: lambda m, path, name: iter(
        [Entry((*path, "codebook"), (f"{name}bitcodes.codebook",))]
    ),
}
