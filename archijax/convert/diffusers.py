"""Reads and writes Stable Audio in the layout of diffusers: model_index.json and a folder for each part."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Sharding

from archijax.configs import OobleckConfig, StableAudioConfig, TextConfig, TransformerConfig, seconds
from archijax.convert import oobleck, t5, table
from archijax.convert.stable_audio import EMBEDDER, hub_tables
from archijax.convert.tensors import Tensors
from archijax.errors import InputError
from archijax.hub import absent, pretrained_folder, read_json, weight_files
from archijax.models.moments import no_moments
from archijax.nn.t5 import T5Config

STEM = "diffusion_pytorch_model"
PARTS = {"transformer": STEM, "vae": STEM, "projection_model": STEM, "text_encoder": "model"}
FILES = [
    "model_index.json",
    "tokenizer/*",
    *(f"{part}/*{kind}" for part in PARTS for kind in (".json", ".safetensors")),
]
CLASSES = {
    "projection_model": ("stable_audio", "StableAudioProjectionModel"),
    "scheduler": ("diffusers", "CosineDPMSolverMultistepScheduler"),
    "text_encoder": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "T5TokenizerFast"),
    "transformer": ("diffusers", "StableAudioDiTModel"),
    "vae": ("diffusers", "AutoencoderOobleck"),
}
MAX_LENGTH = 128  # tokens of a prompt, if the tokenizer does not state its maximum


def read(
    name: str | Path,
    revision: str | None = None,
    *,
    dtype: str = "float32",
    sharding: Callable[[jax.ShapeDtypeStruct], Sharding] | None = None,
) -> tuple[StableAudioConfig, dict[str, Any]]:
    """Reads a Stable Audio model. Returns (the configuration, the variables).

    Args:
        name: a folder, or a name on the hub. Without a network, the model must be in the local cache of the hub.
        revision: a branch, tag or commit on the hub; None: the main branch.
        dtype: the type of the returned parameters, "float32" or "bfloat16".
        sharding: a function that returns the sharding of a parameter of the given shape, such as
            :meth:`archijax.training.mesh.MeshParallel.sharding`. The parameters are moved to the devices one by one.
            None: all parameters stay on the host as numpy arrays.

    Raises:
        InputError: a part or a file is missing or damaged, weights are not in a safetensors file, or tensors belong to
            another model.
    """
    folder = pretrained_folder(name, revision, FILES)
    config = read_config(folder, name)
    place, variables = placing(dtype, sharding), {}
    tensors = {
        part: Tensors(weight_files(name, folder / part, stem), t5.DECODER if part == "text_encoder" else ())
        for part, stem in PARTS.items()
    }
    encoder = t5.entries(t5.load_t5_config(folder))

    def convert(part: str, path: tuple[str, ...], entries: list[table.Entry]) -> None:
        try:
            params = table.from_torch(entries, tensors[part], place)
        except InputError as error:
            raise InputError(f"{folder / part}: {error}") from error
        variables.update({(*path, *own): leaf for own, leaf in flatten_dict(params).items()})

    # Tracing the nets takes as long as converting the text encoder, which needs no trace of them.
    with ThreadPoolExecutor(1) as pool:
        tables = pool.submit(lambda: hub_tables(config, shapes(config)))
        convert("text_encoder", EMBEDDER, encoder)
    for part, (path, entries) in tables.result().items():
        convert(part, path, entries)
    return config, whole(config, variables, place)


def placing(dtype: str, sharding: Callable[[jax.ShapeDtypeStruct], Sharding] | None) -> Callable[..., Any]:
    """Returns the function ``place`` for :func:`archijax.convert.table.from_torch`. :func:`read` explains ``dtype`` and
    ``sharding``."""
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}: float32 or bfloat16 is needed")
    target = jnp.dtype(dtype)

    def place(path: tuple[str, ...], array: np.ndarray) -> Any:
        array = array.astype(target, copy=False)
        if sharding is None:
            return array
        placed = sharding(jax.ShapeDtypeStruct(array.shape, array.dtype))
        return jax.make_array_from_callback(array.shape, placed, lambda index: array[index])

    return place


def whole(
    config: StableAudioConfig, variables: Mapping[tuple[str, ...], Any], place: Callable[..., Any]
) -> dict[str, Any]:
    """Returns the collections of a latent model. ``variables`` is a dict from paths to parameters. ``place`` is the
    result of :func:`placing`.

    The mean and the standard deviation of the latents get initial values, with which the model does not scale latents.
    """
    # The moments are zeros. Made by JAX, each of them would be compiled.
    unknown = jax.eval_shape(lambda: no_moments(config.autoencoder.latent_channels))
    unknown = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in unknown.items()}
    path = ("frozen", "autoencoder", "state", "latents")
    return unflatten_dict(
        {**variables, **{(*path, name): place((*path, name), leaf) for name, leaf in unknown.items()}}
    )


def shapes(config: StableAudioConfig) -> dict[str, Any]:
    """Returns the shapes of all parameters of the net and the autoencoder. The nested dicts have the structure of the
    model's variables.

    Only one layer is traced, because all layers have the same shapes. To trace the whole ``init`` would take much
    longer.
    """
    count = config.transformer.num_layers
    one = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, num_layers=1)).build()
    width = config.text.t5().d_model

    def init() -> dict[str, Any]:
        # Arrays that are made here are traced. Made outside, each of them would be compiled.
        frame, embedding = jnp.zeros((1, 1, one.latent_channels)), jnp.zeros((1, 1, width))
        return one.model.net.init(jax.random.key(0), frame, jnp.zeros(1), embedding=embedding)

    params = jax.eval_shape(init)["params"]
    params["net"] |= {f"layers_{i}": params["net"]["layers_0"] for i in range(count)}
    return {
        "params": {"net": params},
        "frozen": {"autoencoder": {"params": {"net": oobleck.shapes(config.autoencoder)}}},
    }


def read_config(folder: Path, name: str | Path) -> StableAudioConfig:
    """Reads the configuration from a folder. The configuration states ``name`` as the place of the tokenizer and the
    text encoder."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise InputError(absent(name, folder, FILES))
    kind = read_json(index).get("_class_name")
    if kind != "StableAudioPipeline":
        raise InputError(f"{index} is of {kind!r}: only 'StableAudioPipeline' is known")
    settings = {part: _settings(folder, part) for part in PARTS}
    transformer, vae, projection = (settings[part] for part in ("transformer", "vae", "projection_model"))
    try:
        return _config(transformer, vae, projection, settings["text_encoder"], folder, str(name))
    except KeyError as error:
        raise InputError(f"a config.json in {folder} lacks the setting {error}") from error
    except TypeError as error:
        raise InputError(f"a config.json in {folder} has a setting of another type ({error})") from error


def _settings(folder: Path, part: str) -> dict[str, Any]:
    path = folder / part / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} lacks {part}/config.json: the parts {', '.join(PARTS)} are needed")
    settings, (_, expected) = read_json(path), CLASSES[part]
    if (kind := settings.get("_class_name", expected)) != expected:
        raise InputError(f"{path} is of {kind!r}: {expected!r} is needed")
    return settings


def _config(
    transformer: dict, vae: dict, projection: dict, text_encoder: dict, folder: Path, name: str
) -> StableAudioConfig:
    latent, width = vae["decoder_input_channels"], projection["conditioning_dim"]
    equal = {
        "in_channels of the transformer": (transformer["in_channels"], latent),
        "out_channels of the transformer": (transformer["out_channels"], latent),
        "encoder_hidden_size of the vae": (vae["encoder_hidden_size"], 2 * latent),
        "cross_attention_input_dim of the transformer": (transformer["cross_attention_input_dim"], width),
        "global_states_input_dim of the transformer": (transformer["global_states_input_dim"], 2 * width),
        "text_encoder_dim of the projection_model": (projection["text_encoder_dim"], text_encoder["d_model"]),
    }
    for name_of, (value, expected) in equal.items():
        if value != expected:
            raise InputError(f"{name_of} in {folder} is {value}, but the other parts need {expected}")
    autoencoder = OobleckConfig(
        encoder_channels=vae["encoder_hidden_size"],
        decoder_channels=vae["decoder_channels"],
        multipliers=tuple(vae["channel_multiples"]),
        strides=tuple(vae["downsampling_ratios"]),
        latent_channels=latent,
        sample_rate=vae["sampling_rate"],
        channels=vae["audio_channels"],
        length=int(np.prod(vae["downsampling_ratios"])) * min(32, transformer["sample_size"]),
    )
    length = int(transformer["sample_size"]) * autoencoder.downsample_factor
    features, heads = transformer["attention_head_dim"], transformer["num_key_value_attention_heads"]
    return StableAudioConfig(
        transformer=TransformerConfig(
            num_layers=transformer["num_layers"],
            num_heads=transformer["num_attention_heads"],
            head_features=features,
            embedding_width=transformer["cross_attention_dim"],
            embedding_heads=None if heads * features == transformer["cross_attention_dim"] else heads,
            time_features=transformer["time_proj_dim"],
        ),
        autoencoder=autoencoder,
        text=TextConfig(tokenizer=name, max_length=_max_length(folder)),
        conditioning_features=width,
        numbers=seconds(projection["max_value"], length / autoencoder.sample_rate, projection["min_value"]),
        sample_rate=autoencoder.sample_rate,
        channels=autoencoder.channels,
        length=length,
    )


def _max_length(folder: Path) -> int:
    path = folder / "tokenizer" / "tokenizer_config.json"
    length = read_json(path).get("model_max_length") if path.is_file() else None
    # A tokenizer without a maximum states a number of thirty digits.
    return length if isinstance(length, int) and 0 < length < 10_000 else MAX_LENGTH


def write(folder: Path, config: StableAudioConfig, variables: Mapping[str, Any]) -> None:
    """Writes a model into an existing folder, in the layout that diffusers' StableAudioPipeline reads.

    Raises:
        InputError: the model has placeholder tokens, a text encoder other than a pretrained T5, or a setting that
            diffusers does not support.
    """
    from safetensors.numpy import save_file

    if not config.text.is_pretrained or config.text.placeholder_tokens:
        raise InputError("diffusers' Stable Audio needs a pretrained T5, but this model has its own text encoder")
    encoder = config.text.t5()
    parts = {part: table.to_torch(entries, _at(variables, path)) for part, (path, entries) in hub_tables(
        config, variables).items()}  # fmt: skip
    parts["text_encoder"] = t5.to_torch(_at(variables, EMBEDDER), encoder)
    # diffusers lists the embedding once.
    parts["text_encoder"].pop("encoder.embed_tokens.weight", None)
    for part, settings in _hub_settings(config, encoder).items():
        (folder / part).mkdir()
        named = "scheduler_config.json" if part == "scheduler" else "config.json"
        _write_json(folder / part / named, settings)
        if part in parts:
            save_file(parts[part], folder / part / f"{PARTS[part]}.safetensors", {"format": "pt"})
    config.text.load_tokenizer().save_pretrained(folder / "tokenizer")
    _write_json(folder / "model_index.json", {"_class_name": "StableAudioPipeline", **CLASSES})


def _at(variables: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for name in path:
        variables = variables[name]
    return variables


def _write_json(path: Path, settings: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=2) + "\n")


def _hub_settings(config: StableAudioConfig, encoder: T5Config) -> dict[str, dict[str, Any]]:
    """Returns a dict from the folder of each part of a diffusers model to the contents of config.json in this
    folder."""
    net, vae, width = config.transformer, config.autoencoder, config.conditioning_features
    (number, other) = config.numbers
    if (number.low, number.high) != (other.low, other.high):
        raise InputError(f"{number.name} and {other.name} have different ranges: diffusers has one range for both")
    t5_settings = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(T5Config) if f.name != "gated"}
    settings = {
        "transformer": {
            "sample_size": config.length // vae.downsample_factor,
            "in_channels": vae.latent_channels,
            "out_channels": vae.latent_channels,
            "num_layers": net.num_layers,
            "attention_head_dim": net.head_features,
            "num_attention_heads": net.num_heads,
            "num_key_value_attention_heads": net.embedding_heads or net.embedding_width // net.head_features,
            "cross_attention_dim": net.embedding_width,
            "time_proj_dim": net.time_features,
            "global_states_input_dim": 2 * width,
            "cross_attention_input_dim": width,
        },
        "vae": {
            "encoder_hidden_size": vae.encoder_channels,
            "downsampling_ratios": list(vae.strides),
            "channel_multiples": list(vae.multipliers),
            "decoder_channels": vae.decoder_channels,
            "decoder_input_channels": vae.latent_channels,
            "audio_channels": vae.channels,
            "sampling_rate": vae.sample_rate,
        },
        "projection_model": {
            "text_encoder_dim": encoder.d_model,
            "conditioning_dim": width,
            "min_value": number.low,
            "max_value": number.high,
        },
        "scheduler": {"sigma_min": 0.3, "sigma_max": 500, "sigma_schedule": "exponential", "solver_order": 2},
    }
    settings = {part: {"_class_name": CLASSES[part][1], **values} for part, values in settings.items()}
    proj = "gated-gelu" if encoder.gated else "relu"
    return {**settings, "text_encoder": {"model_type": "t5", "feed_forward_proj": proj, **t5_settings}}
