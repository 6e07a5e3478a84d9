"""Builders of the golden cases: they build the object of a case.json from its arguments."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import golden_audio
import golden_encoders
import golden_models
import golden_stable_audio
import jax
import jax.numpy as jnp
from golden_layout import SIGNALS, Built, first, last
from safetensors.numpy import load_file

import archijax as aj
from archijax import convert
from archijax.convert.t5 import from_torch as t5_from_torch
from archijax.convert.t5 import to_torch as t5_to_torch
from archijax.nn.attention import Attention, CrossAttention, FeedForward, LinearAttention, LinearCrossAttention
from archijax.nn.items import (
    ConvNeXtV2,
    InjectChannels,
    Modulation,
    Resnet,
    SkipAdd,
    SkipConcat,
    SkipModulate,
)
from archijax.nn.resampling import Downsample, UpsampleNearest, UpsampleTranspose
from archijax.nn.t5 import T5Config, T5Encoder

UNET_V0_OWN = {  # arguments of the original's constructors that ours infer from x
    "dim", "in_channels", "append_channels", "transform", "use_text_conditioning",
}  # fmt: skip


def unet_v0(args: dict) -> Any:
    return aj.UNetV0(**{name: value for name, value in args.items() if name not in UNET_V0_OWN})


def xunet(args: dict) -> Any:
    attention = {"head_features": args["attention_features"], "num_heads": args["attention_heads"]}
    items = {
        "R": lambda block: Resnet(args["resnet_groups"], args["resnet_kernel_size"]),
        "M": lambda block: Modulation(),
        "A": lambda block: Attention(**attention),
        "C": lambda block: CrossAttention(**attention),
        "F": lambda block: FeedForward(args["attention_multiplier"]),
        "I": lambda block: InjectChannels(block["context_channels"]),
        "ConvNeXtV2": lambda block: ConvNeXtV2(),
        "LinearAttention": lambda block: LinearAttention(**attention),
        "LinearCrossAttention": lambda block: LinearCrossAttention(**attention),
    }
    return aj.nn.TimeConditioning(
        aj.UNet(
            blocks=[
                aj.Block(block["channels"], block["factor"], items=[items[name](block) for name in block["items"]])
                for block in args["blocks"]
            ],
            out_channels=args.get("out_channels"),
            downsample=Downsample(args["downsample_width"]),
            upsample=UpsampleTranspose(args["upsample_width"])
            if args["upsample_mode"] == "transpose"
            else UpsampleNearest(args["upsample_kernel_size"]),
            skip={"add": SkipAdd, "cat": SkipConcat, "modulate": SkipModulate}[args["skip"]](),
        ),
        features=args["modulation_features"],
    )


def net_case(net: Any, state: dict, example: dict) -> Built:
    inputs = net_inputs(example)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), **inputs))["params"]
    table = convert.entries(net, shapes)
    params = convert.from_torch(table, state)

    def call(tensors, kwargs, draws):
        kwargs = dict(kwargs)
        inputs = net_inputs(tensors)
        if (probability := kwargs.pop("embedding_mask_proba", 0.0)) > 0:
            assert probability == 1.0, "a probability between 0 and 1 would need the draws"
            kwargs["embedding_mask"] = jnp.ones(len(inputs["x"]), bool)
        return [last(net.apply({"params": params}, **inputs, **kwargs))]

    return Built(params, lambda p: convert.to_torch(table, p), {"__call__": call})


def net_inputs(tensors: dict) -> dict:
    """The named tensors of a call in our layout. Lists (channels per depth) are converted element by element."""

    def convert_one(name, value):
        if isinstance(value, list):
            return [convert_one(name, item) for item in value]
        if value is None:
            return None
        return first(value) if name in SIGNALS else jnp.asarray(value)

    return {name: convert_one(name, value) for name, value in tensors.items()}


def t5_case(args: dict, state: dict, example: dict) -> Built:
    config = T5Config.from_hf(args)
    params = t5_from_torch(state, config)

    def call(tensors, kwargs, draws):
        tokens = tensors["input_ids"].astype(jnp.int32)
        mask = tensors["attention_mask"].astype(bool)
        return [T5Encoder(config).apply({"params": params}, tokens, mask)]

    return Built(params, lambda p: t5_to_torch(p, config), {"__call__": call})


# Cases that consist of a net: functions from the arguments to the net.
NETS = {
    "UNetV0": unet_v0,
    "LTPlugin(UNetV0)": lambda args: aj.LearnedTransform(unet_v0(args), **args["transform"]),
    "AppendChannelsPlugin(UNetV0)": lambda args: aj.nn.AppendChannels(unet_v0(args)),
    "TimeConditioningPlugin(XUNet)": xunet,
}


# Builders of all other cases: (arguments, state_dict, tensors of the first call by argument) -> Built.
BUILDERS = {
    "T5EncoderModel": t5_case,
    **golden_audio.BUILDERS,
    **golden_encoders.BUILDERS,
    **golden_models.BUILDERS,
    **golden_stable_audio.BUILDERS,
}


@functools.cache
def build(folder: Path) -> tuple[dict, dict, Built]:
    """Reads a case, and returns (case.json, tensors, Built)."""
    case = json.loads((folder / "case.json").read_text())
    tensors = load_file(folder / "io.safetensors")
    weights = folder / "weights.safetensors"
    state = load_file(weights) if weights.exists() else {}
    builder, args = case["builder"], case["args"]
    example = resolve(case["calls"][0]["inputs"], tensors)
    if (folder / "pipeline").is_dir():
        built = golden_stable_audio.pipeline_case(args, folder / "pipeline")
    elif builder in NETS:
        built = net_case(NETS[builder](args), state, example)
    else:
        built = BUILDERS[builder](args, state, example)
    return case, tensors, built


def resolve(inputs: dict, tensors: dict) -> dict:
    """The inputs of a call, with the names of tensors replaced by the tensors."""

    def look_up(value):
        if isinstance(value, list):
            return [look_up(item) for item in value]
        return None if value is None else tensors[value]

    return {name: look_up(value) for name, value in inputs.items()}
