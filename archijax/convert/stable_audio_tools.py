"""Reads and writes folders of stable-audio-tools: model_config.json, and model.safetensors without the text encoder.

Stable Audio Open Small and Stable Audio Open have this layout.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from jax.sharding import Sharding

from archijax.configs import OobleckConfig, StableAudioConfig, TextConfig, TransformerConfig
from archijax.convert import t5, table
from archijax.convert.diffusers import placing, shapes, whole
from archijax.convert.stable_audio import EMBEDDER, frequencies_kept, tools_table
from archijax.convert.tensors import Tensors
from archijax.errors import InputError
from archijax.hub import absent, is_hub_name, pretrained_folder, read_json, weight_files
from archijax.nn.numbers import Number

SETTINGS = "model_config.json"
FILES = [SETTINGS, "model.safetensors"]
# The method of each objective, and whether the model was distilled.
OBJECTIVES = {"v": ("v", False), "rectified_flow": ("flow", False), "rf_denoiser": ("flow", True)}
# Settings of the transformer that are no sizes, each with its only supported value.
FIXED = {
    "transformer_type": "continuous_transformer",
    "global_cond_type": "prepend",
    "timestep_cond_type": "global",
    "project_global_cond": True,
    "patch_size": 1,
    "input_concat_dim": 0,
    "prepend_cond_dim": 0,
}
LEAST_ROTARY = 32  # the smallest number of rotated features of a head
# The fields of a configuration that a model_config.json must represent.
SIZES = ("transformer", "conditioning_features", "numbers", "sample_rate", "channels", "length", "method", "distilled")


def read(
    name: str | Path,
    revision: str | None = None,
    *,
    text_encoder: str | None = None,
    dtype: str = "float32",
    sharding: Callable[[jax.ShapeDtypeStruct], Sharding] | None = None,
) -> tuple[StableAudioConfig, dict[str, Any]]:
    """Reads a Stable Audio model. Returns (the configuration, the variables).

    Args:
        name: a folder, or a name on the hub. Without a network, the model must be in the local cache of the hub.
        revision: a branch, tag or commit on the hub; None: the main branch.
        text_encoder: the folder or the hub name of the T5; None: the hub name in model_config.json.
        dtype, sharding: as for :func:`archijax.convert.diffusers.read`.

    Raises:
        InputError: a file is missing or damaged, weights are not in a safetensors file, a setting is unknown, or
            tensors do not fit the settings.
    """
    folder = pretrained_folder(name, revision, FILES)
    config = read_config(folder, name, text_encoder)
    place, tensors = placing(dtype, sharding), Tensors(weight_files(name, folder))
    entries = frequencies_kept(tensors, tools_table(config, shapes(config)))
    try:
        params = flatten_dict(table.from_torch(entries, tensors, place))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    encoder = flatten_dict(t5.load_t5(config.text.tokenizer)[1])
    encoder = {(*EMBEDDER, *path): place(path, leaf) for path, leaf in encoder.items()}
    return config, whole(config, {**params, **encoder}, place)


def read_config(folder: Path, name: str | Path, text_encoder: str | None = None) -> StableAudioConfig:
    """Reads the configuration from model_config.json in ``folder``. :func:`read` explains the other arguments."""
    path = folder / SETTINGS
    if not path.is_file():
        raise InputError(absent(name, folder, FILES))
    settings = read_json(path)
    try:
        return _config(settings, text_encoder)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except KeyError as error:
        raise InputError(f"{path} lacks the setting {error}") from error
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path} has a setting of another type ({error})") from error


def _config(settings: dict[str, Any], text_encoder: str | None) -> StableAudioConfig:
    model = settings["model"]
    diffusion, conditioning = model["diffusion"], model["conditioning"]
    _equal("model_type", settings["model_type"], "diffusion_cond")
    _equal("model.diffusion.type", diffusion["type"], "dit")
    objective = diffusion.get("diffusion_objective", "v")
    if objective not in OBJECTIVES:
        raise InputError(f"the diffusion_objective is {objective!r}: {', '.join(OBJECTIVES)} are known")
    method, distilled = OBJECTIVES[objective]
    autoencoder = _autoencoder(settings, model["pretransform"])
    conditioners = {conditioner["id"]: conditioner for conditioner in conditioning["configs"]}
    prompt, names = conditioners.pop("prompt"), diffusion["global_cond_ids"]
    _equal("the type of the conditioner prompt", prompt["type"], "t5")
    _equal("model.diffusion.cross_attention_cond_ids", diffusion["cross_attention_cond_ids"], ["prompt", *names])
    _equal("the ids of the conditioners", sorted(conditioners), sorted(names))
    encoder = text_encoder or prompt["config"].get("t5_model_name", "t5-base")
    if text_encoder is None and not is_hub_name(encoder):
        raise InputError(f"its text encoder {encoder!r} is not the name of a model on the hub")
    length, rate = settings["sample_size"], settings["sample_rate"]
    transformer = _transformer(diffusion["config"], conditioning["cond_dim"], len(names))
    return StableAudioConfig(
        transformer=transformer,
        autoencoder=autoencoder,
        text=TextConfig(tokenizer=encoder, max_length=prompt["config"].get("max_length", 128)),
        conditioning_features=conditioning["cond_dim"],
        numbers=tuple(_number(conditioners[name], length / rate) for name in names),
        sample_rate=rate,
        channels=settings["audio_channels"],
        length=length,
        method=method,
        distilled=distilled,
    )


def _equal(name: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise InputError(f"{name} is {value!r}: only {expected!r} is known")


def _number(conditioner: dict[str, Any], length: float) -> Number:
    _equal(f"the type of the conditioner {conditioner['id']}", conditioner["type"], "number")
    low, high = float(conditioner["config"].get("min_val", 0)), float(conditioner["config"].get("max_val", 1))
    name = conditioner["id"]
    return Number(name, low, high, min(max(length, low), high) if name == "seconds_total" else low)


def _autoencoder(settings: dict[str, Any], pretransform: dict[str, Any]) -> OobleckConfig:
    _equal("the type of the pretransform", pretransform["type"], "autoencoder")
    _equal("the scale of the pretransform", pretransform.get("scale", 1.0), 1.0)
    config = pretransform["config"]
    encoder, decoder = config["encoder"], config["decoder"]
    latent = config["latent_dim"]
    _equal("the type of the bottleneck", config["bottleneck"]["type"], "vae")
    for side, coder in (("encoder", encoder), ("decoder", decoder)):
        _equal(f"the type of the {side}", coder["type"], "oobleck")
        _equal(f"use_snake of the {side}", coder["config"].get("use_snake", False), True)
        _equal(f"antialias_activation of the {side}", coder["config"].get("antialias_activation", False), False)
        for name in ("c_mults", "strides"):
            _equal(f"{name} of the {side}", coder["config"][name], encoder["config"][name])
    _equal("final_tanh of the decoder", decoder["config"].get("final_tanh", True), False)
    _equal("use_nearest_upsample of the decoder", decoder["config"].get("use_nearest_upsample", False), False)
    _equal("latent_dim of the encoder", encoder["config"]["latent_dim"], 2 * latent)
    _equal("latent_dim of the decoder", decoder["config"]["latent_dim"], latent)
    return OobleckConfig(
        encoder_channels=encoder["config"]["channels"],
        decoder_channels=decoder["config"]["channels"],
        multipliers=tuple(encoder["config"]["c_mults"]),
        strides=tuple(encoder["config"]["strides"]),
        latent_channels=latent,
        sample_rate=settings["sample_rate"],
        channels=config["io_channels"],
        length=config["downsampling_ratio"] * min(32, settings["sample_size"] // config["downsampling_ratio"]),
    )


def _transformer(config: dict[str, Any], width: int, numbers: int) -> TransformerConfig:
    rest = dict(config)
    for name, expected in FIXED.items():
        default = "x-transformers" if name == "transformer_type" else expected
        _equal(f"{name} of the transformer", rest.pop(name, default), expected)
    qk_norm = rest.pop("attn_kwargs", {}).get("qk_norm", "none")
    if qk_norm not in ("ln", "none"):
        raise InputError(f"qk_norm of the transformer is {qk_norm!r}: 'ln' and 'none' are known")
    rest.pop("io_channels")
    embed, heads = rest.pop("embed_dim"), rest.pop("num_heads")
    _equal("cond_token_dim of the transformer", rest.pop("cond_token_dim"), width)
    _equal("global_cond_dim of the transformer", rest.pop("global_cond_dim"), numbers * width)
    features, projected = embed // heads, rest.pop("project_cond_tokens", True)
    layers = rest.pop("depth")
    if rest:
        raise InputError(f"the transformer has the setting {min(rest)!r}, which is unknown")
    rotated = max(features // 2, LEAST_ROTARY)
    return TransformerConfig(
        num_layers=layers,
        num_heads=heads,
        head_features=features,
        embedding_width=embed if projected else width,
        rotary_features=None if rotated == features // 2 else rotated,
        qk_norm=qk_norm == "ln",
    )


def write(folder: Path, config: StableAudioConfig, variables: Mapping[str, Any]) -> None:
    """Writes a model into an existing folder, in the layout that stable-audio-tools reads.

    Raises:
        InputError: the model has a setting that stable-audio-tools does not support.
    """
    from safetensors.numpy import save_file

    if not config.text.is_pretrained or config.text.placeholder_tokens:
        raise InputError("stable-audio-tools needs a pretrained T5, but this model has its own text encoder")
    settings = _settings(config)
    again = _config(settings, config.text.tokenizer)
    # stable-audio-tools computes the defaults of numbers from the length.
    pairs = zip(config.numbers, again.numbers, strict=True)
    config = dataclasses.replace(
        config, numbers=tuple(dataclasses.replace(number, default=other.default) for number, other in pairs)
    )
    again, ours = (flatten_dict(dataclasses.asdict(c)) for c in (again, config))
    if differing := [path for path in ours if path[0] in SIZES and again[path] != ours[path]]:
        name, value = ".".join(differing[0]), ours[differing[0]]
        raise InputError(f"stable-audio-tools has no model whose {name} is {value!r}")
    state = table.to_torch(tools_table(config, variables), variables)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def _settings(config: StableAudioConfig) -> dict[str, Any]:
    """Returns the contents of model_config.json for a model."""
    net, vae, width = config.transformer, config.autoencoder, config.conditioning_features
    coder = {"c_mults": list(vae.multipliers), "strides": list(vae.strides), "use_snake": True}
    names = [number.name for number in config.numbers]
    objectives = {method: objective for objective, method in OBJECTIVES.items()}
    transformer = {
        "io_channels": vae.latent_channels,
        "embed_dim": net.num_heads * net.head_features,
        "depth": net.num_layers,
        "num_heads": net.num_heads,
        "cond_token_dim": width,
        "global_cond_dim": len(names) * width,
        "project_cond_tokens": net.embedding_width != width,
        "transformer_type": "continuous_transformer",
        **({"attn_kwargs": {"qk_norm": "ln"}} if net.qk_norm else {}),
    }
    numbers = [
        {"id": number.name, "type": "number", "config": {"min_val": number.low, "max_val": number.high}}
        for number in config.numbers
    ]
    prompt = {"t5_model_name": config.text.tokenizer, "max_length": config.text.max_length}
    sides = {
        "encoder": {
            "in_channels": vae.channels,
            "channels": vae.encoder_channels,
            "latent_dim": 2 * vae.latent_channels,
        },
        "decoder": {"out_channels": vae.channels, "channels": vae.decoder_channels, "latent_dim": vae.latent_channels},
    }
    sides["decoder"]["final_tanh"] = False
    return {
        "model_type": "diffusion_cond",
        "sample_size": config.length,
        "sample_rate": config.sample_rate,
        "audio_channels": config.channels,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "iterate_batch": True,
                "config": {
                    **{side: {"type": "oobleck", "config": {**own, **coder}} for side, own in sides.items()},
                    "bottleneck": {"type": "vae"},
                    "latent_dim": vae.latent_channels,
                    "downsampling_ratio": vae.downsample_factor,
                    "io_channels": vae.channels,
                },
            },
            "conditioning": {
                "configs": [{"id": "prompt", "type": "t5", "config": prompt}, *numbers],
                "cond_dim": width,
            },
            "diffusion": {
                "cross_attention_cond_ids": ["prompt", *names],
                "global_cond_ids": names,
                "diffusion_objective": objectives[config.method, config.distilled],
                "type": "dit",
                "config": transformer,
            },
            "io_channels": vae.latent_channels,
        },
    }
