"""Builders of the golden cases of encoders and bottlenecks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_layout import Built, first, last

from archijax import convert
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.bottlenecks import (
    BitcodesBottleneck,
    NoiserBottleneck,
    TanhBottleneck,
    VariationalBottleneck,
    to_bits,
    to_decimal,
)
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import Encoder1d, ME1d, MelE1d

LEVELS = (
    "channels", "multipliers", "factors", "num_blocks", "patch_size", "resnet_groups", "bottleneck_channels",
)  # fmt: skip


def bottlenecks(names: Any, args: Any, channels: int) -> tuple:
    """The original's bottleneck with its arguments, or lists of several bottlenecks, for latents with `channels`
    channels."""
    if not isinstance(names, list):
        names, args = [names], [args]
    kinds = {
        None: lambda: None,
        "tanh": TanhBottleneck,
        "noiser": NoiserBottleneck,
        "variational": VariationalBottleneck,
        "bitcodes": partial(BitcodesBottleneck, channels),
    }
    built = [kinds[name](**(one or {})) for name, one in zip(names, args or [{}] * len(names), strict=True)]
    return tuple(one for one in built if one is not None)


def encoder(kind: str, args: dict, bottleneck: Any = ()) -> Encoder1d:
    """An encoder from the arguments of the original."""
    own = {name: args[name] for name in (*LEVELS[:-1], "out_channels") if name in args}
    if kind == "ME1d":
        return ME1d(**own, bottleneck=bottleneck, stft=stft(args), use_log=args.get("use_log", False))
    if kind == "MelE1d":
        return MelE1d(**own, bottleneck=bottleneck, mel=mel(args))
    return Encoder1d(**own, bottleneck=bottleneck)


def stft(args: dict) -> STFT:
    n_fft = args.get("stft_num_fft", 1023)
    return STFT(n_fft, args.get("stft_hop_length") or 256, args.get("stft_window_length"))


def mel(args: dict) -> MelSpectrogram:
    normalize = "log" if args.get("mel_normalize_log") else "max" if args.get("mel_normalize") else None
    return MelSpectrogram(
        n_fft=args.get("mel_n_fft", 1024),
        hop_length=args.get("mel_hop_length", 256),
        window_length=args.get("mel_win_length", 1024),
        sample_rate=args.get("mel_sample_rate", 48_000),
        n_mel_channels=args["mel_channels"],
        normalize=normalize,
    )


def converted(net: Any, state: dict, *inputs: Any, **options: Any) -> tuple[Any, Callable]:
    """The parameters of a net that is initialized with these inputs, and a function back to a state_dict."""
    params = jax.eval_shape(lambda: net.init(jax.random.key(0), *inputs, **options))["params"]
    table = convert.entries(net, params)

    return convert.from_torch(table, state), lambda p: with_buffers(convert.to_torch(table, p), table, state)


def with_buffers(back: dict, table: list, state: dict) -> dict:
    """A state_dict with the original's buffers in place of ours. The last bit of a cosine depends on the library."""
    for entry in table:
        for name in entry.names if entry.constant is not None else ():
            np.testing.assert_allclose(back[name], state[name], rtol=0, atol=1e-6)
            back[name] = state[name]
    return back


def autoencoder_case(args: dict, state: dict, example: dict) -> Built:
    channels = args.get("bottleneck_channels") or args["channels"] * args["multipliers"][-1]
    net = AutoEncoder1d(
        in_channels=args["in_channels"],
        out_channels=args.get("out_channels"),
        bottleneck=bottlenecks(args.get("bottleneck"), args.get("bottleneck_args"), channels),
        **{name: args[name] for name in LEVELS if name in args},
    )
    params, to_torch = converted(net, state, first(example["x"]))
    variables = {"params": params}

    def apply(tensors, draws, method="__call__"):
        # In evaluation mode, only the variational bottleneck draws noise.
        draws = iter([first(draw) for draw in draws])
        drawn = [next(draws) if isinstance(one, VariationalBottleneck) else None for one in net.bottleneck]
        return net.apply(variables, first(tensors["x"]), draws=drawn, method=method)

    def encode_with_info(tensors, kwargs, draws):
        latent, info = apply(tensors, draws, "encode")
        return [last(latent), last(info["mean"]), last(info["log_variance"]), info["loss"]]

    calls = {
        "encode": lambda t, k, d: [last(apply(t, d, "encode")[0])],
        "forward": lambda t, k, d: [last(apply(t, d)[0])],
        "encode_with_info": encode_with_info,
        "decode": lambda t, k, d: [last(net.apply(variables, first(next(iter(t.values()))), method="decode"))],
    }
    return Built(params, to_torch, calls)


def encoder_case(kind: str) -> Callable:
    def build(args: dict, state: dict, example: dict) -> Built:
        channels = args.get("out_channels") or args["channels"] * args["multipliers"][-1]
        net = encoder(kind, args, bottlenecks(args.get("bottleneck"), args.get("bottleneck_args"), channels))
        params, to_torch = converted(net, state, first(example["x"]))

        def call(tensors, kwargs, draws):
            return [last(net.apply({"params": params}, first(tensors["x"]))[0])]

        return Built(params, to_torch, {"forward": call, "encode": call, "__call__": call})

    return build


def magnitude_autoencoder_case(args: dict, state: dict, example: dict) -> Built:
    frequencies = args.get("stft_num_fft", 1023) // 2 + 1
    net = MAE1d(
        in_channels=args["in_channels"],
        # The original's number of channels also counts frequencies.
        out_channels=args["out_channels"] // frequencies if args.get("out_channels") else None,
        bottleneck=bottlenecks(args.get("bottleneck"), args.get("bottleneck_args"), args.get("bottleneck_channels")),
        stft=stft(args),
        **{name: args[name] for name in LEVELS if name in args},
    )
    params, to_torch = converted(net, state, first(example["wave"]), method="loss")

    def loss(tensors, kwargs, draws):
        return [net.apply({"params": params}, first(tensors["wave"]), method="loss")[0]]

    return Built(params, to_torch, {"loss": loss})


def bitcodes_case(args: dict, state: dict, example: dict) -> Built:
    # In the original, this bottleneck is a separate module, and its arrays are channels last.
    net = BitcodesBottleneck(args["features"], args["num_bits"], args["temperature"])
    x = jnp.asarray(next(iter(example.values())))
    params, to_torch = converted(net, {f"bitcodes.{name}": array for name, array in state.items()}, x)

    def call(tensors, kwargs, draws):
        draws = draws[0].reshape(*tensors["x"].shape[:2], -1, 2) if draws else None
        y, info = net.apply({"params": params}, tensors["x"], draws=draws, train=draws is not None)
        return [y, info["bits"]]

    def from_bits(tensors, kwargs, draws):
        return [net.apply({"params": params}, tensors["bits"], method="from_bits")]

    calls = {
        "__call__": call,
        "from_bits": from_bits,
        "to_decimal": lambda t, k, d: [to_decimal(t["bits"])],
        "to_bits": lambda t, k, d: [to_bits(next(iter(t.values())).astype(jnp.int32), **k)],
    }
    back = {name: f"bitcodes.{name}" for name in state}
    return Built(params, lambda p: {name: to_torch(p)[ours] for name, ours in back.items()}, calls)


def discriminator_case(args: dict, state: dict, example: dict) -> Built:
    net = Discriminator1d(encoder("Encoder1d", args), args.get("use_loss"))
    pair = first(example["true"]), first(example["fake"])
    params, to_torch = converted(net, state, *pair)

    def call(tensors, kwargs, draws):
        return list(net.apply({"params": params}, first(tensors["true"]), first(tensors["fake"]))[:2])

    return Built(params, to_torch, {"forward": call})


BUILDERS = {
    "AutoEncoder1d": autoencoder_case,
    "Bitcodes": bitcodes_case,
    "Discriminator1d": discriminator_case,
    "Encoder1d": encoder_case("Encoder1d"),
    "MAE1d": magnitude_autoencoder_case,
    "ME1d": encoder_case("ME1d"),
    "MelE1d": encoder_case("MelE1d"),
}
