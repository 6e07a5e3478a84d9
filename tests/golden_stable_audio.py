"""Builders of the golden cases of Stable Audio in diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_layout import Built, first, last

from archijax.codecs.oobleck import Oobleck
from archijax.configs import seconds
from archijax.convert import diffusers, table
from archijax.convert.oobleck import hub_entries
from archijax.convert.stable_audio import fitted, hub_conditioners, hub_transformer
from archijax.nn.numbers import NumberConditioning
from archijax.nn.transformer import DiffusionTransformer

KEY = jax.random.key(0)


def transformer_case(args: dict, state: dict, example: dict) -> Built:
    net = DiffusionTransformer(
        args["num_layers"],
        args["num_attention_heads"],
        args["attention_head_dim"],
        embedding_features=args["cross_attention_input_dim"],
        embedding_width=args["cross_attention_dim"],
        embedding_heads=args["num_key_value_attention_heads"],
        global_features=args["global_states_input_dim"],
        time_features=args["time_proj_dim"],
    )

    def inputs(tensors):
        return (first(tensors["hidden_states"]), tensors["timestep"]), {
            "embedding": tensors["encoder_hidden_states"],
            "features": tensors["global_hidden_states"][:, 0],
            "out_channels": args["out_channels"],
        }

    arrays, conditioning = inputs(example)
    shapes = jax.eval_shape(lambda: net.init(KEY, *arrays, **conditioning))["params"]
    entries = fitted(hub_transformer(args["num_layers"]), shapes)
    params = table.from_torch(entries, state)

    def call(tensors, kwargs, draws):
        arrays, conditioning = inputs(tensors)
        return [last(net.apply({"params": params}, *arrays, **conditioning))]

    return Built(params, lambda p: table.to_torch(entries, p), {"__call__": call})


class Parts(DiffusionTransformer):
    """Returns the inputs of the net in place of its output."""

    def __call__(self, x, *, embedding, features):
        return embedding


def projection_case(args: dict, state: dict, example: dict) -> Built:
    low, high = args["min_value"], args["max_value"]
    numbers = seconds(high, high, low)
    net = NumberConditioning(Parts(1, 2), numbers, args["conditioning_dim"], args["text_encoder_dim"])

    def embedding(tensors):
        return {
            "embedding": tensors["text_hidden_states"],
            "seconds_start": tensors["start_seconds"],
            "seconds_total": tensors["end_seconds"],
        }

    # As long as the tokens, because a net keeps the positions of x.
    x = jnp.zeros((*np.add(example["text_hidden_states"].shape[:2], (0, len(numbers))), 1))
    shapes = jax.eval_shape(lambda: net.init(KEY, x, **embedding(example)))["params"]
    entries = fitted(hub_conditioners(), shapes)
    params = table.from_torch(entries, state)

    def call(tensors, kwargs, draws):
        tokens = net.apply({"params": params}, x, **embedding(tensors))
        return [tokens[:, :-2], tokens[:, -2:-1], tokens[:, -1:]]

    return Built(params, lambda p: table.to_torch(entries, p), {"__call__": call})


def oobleck_case(args: dict, state: dict, example: dict) -> Built:
    net = Oobleck(
        args["audio_channels"],
        args["decoder_input_channels"],
        args["encoder_hidden_size"],
        args["decoder_channels"],
        args["channel_multiples"],
        args["downsampling_ratios"],
    )
    shapes = jax.eval_shape(lambda: net.init(KEY, first(example["x"])))["params"]
    entries = fitted(hub_entries(len(args["downsampling_ratios"])), shapes)
    params = table.from_torch(entries, state)
    variables = {"params": params}

    def encode(tensors, kwargs, draws):
        _, info = net.apply(variables, first(tensors["x"]), method="encode")
        return [last(info["mean"]), last(info["deviation"])]

    def sample(tensors, kwargs, draws):
        return [last(net.apply(variables, first(tensors["x"]), draws=[first(draws[0])], method="encode")[0])]

    def decode(tensors, kwargs, draws):
        return [last(net.apply(variables, first(tensors["z"]), method="decode"))]

    def back(params: Any) -> dict[str, np.ndarray]:
        return with_directions(table.to_torch(entries, params), state)

    lengths = sum(array.size for name, array in state.items() if name.endswith("weight_g"))
    return Built(params, back, {"encode": encode, "sample": sample, "decode": decode}, folded=lengths)


def with_directions(back: dict, state: dict) -> dict:
    """A state_dict with the original's weight norm in place of ours, if the products are equal."""

    def product(tensors, name):
        g, v = (tensors[f"{name}_{part}"].astype(np.float64) for part in "gv")
        return g * v / np.sqrt(np.square(v).sum(axis=tuple(range(1, v.ndim)), keepdims=True))

    for name in [name.removesuffix("_g") for name in back if name.endswith("weight_g")]:
        ours, theirs = product(back, name), product(state, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        back |= {f"{name}_{part}": state[f"{name}_{part}"] for part in "gv"}
    return back


def pipeline_case(args: dict, folder: Path) -> Built:
    config, variables = diffusers.read(folder)
    model = config.build()
    # The case also has the sizes.
    transformer = args["transformer"]
    assert config.transformer.num_layers == transformer["num_layers"]
    assert config.length == transformer["sample_size"] * np.prod(args["vae"]["downsampling_ratios"])

    def sample(tensors, kwargs, draws):
        noise = first(tensors["noise"])
        latents = model.model.sample(
            variables,
            KEY,
            shape=noise.shape,
            noise=noise,
            num_steps=kwargs["num_steps"],
            guidance=kwargs["guidance_scale"],
            timestep_spacing="linear",
            tokens=tensors["input_ids"].astype(jnp.int32),
            token_mask=tensors["attention_mask"].astype(bool),
            seconds_start=tensors["start_seconds"],
            seconds_total=tensors["end_seconds"],
        )
        sound = model.autoencoder.decode(variables["frozen"]["autoencoder"], latents)
        return [last(latents), last(sound)]

    return Built(variables, lambda p: {}, {"sample": sample})


BUILDERS = {
    "AutoencoderOobleck": oobleck_case,
    "StableAudioDiTModel": transformer_case,
    "StableAudioProjectionModel": projection_case,
}
