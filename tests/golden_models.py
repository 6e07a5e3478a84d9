"""Builders of the golden cases of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_encoders import bottlenecks, encoder, mel, with_buffers
from golden_layout import Built, first, last, swapped

import archijax as aj
from archijax import convert
from archijax.models import DiffusionAE, DiffusionUpsampler, DiffusionVocoder
from archijax.sampling import Inpaint, advance, begin

UNET_V0 = set(inspect.signature(aj.UNetV0).parameters)
KEY = jax.random.key(0)  # without effect, because the cases contain all random draws


def unet_v0(args: dict, **others: Any) -> Any:
    """The U-Net of a case, from the arguments that apply to it."""
    return aj.UNetV0(**{name: value for name, value in {**args, **others}.items() if name in UNET_V0})


def weights(model: Any, batch: dict, state: dict) -> tuple[dict, Callable]:
    """The variables of a model for batches like `batch`, and a function from parameters back to a state_dict."""
    table = convert.entries(model, jax.eval_shape(lambda: model.init(KEY, batch))["params"])
    variables = {"params": convert.from_torch(table, state), "frozen": {}}
    return variables, lambda params: with_buffers(convert.to_torch(table, params), table, state)


def diffused(model, variables: dict, frames: jax.Array, noise: jax.Array, settings: dict) -> jax.Array:
    """The result of a decoder's diffusion model, before the projection to the frames."""
    noise, conditioning = model.prepare(variables, frames, noise, {})
    return model.model.sample(variables, KEY, shape=noise.shape, noise=noise, **conditioning, **settings)


def diffusion_case(args: dict, state: dict, example: dict) -> Built:
    model = aj.DiffusionModel(unet_v0(args))
    variables, back = weights(model, {"audio": first(next(iter(example.values())))}, state)

    def forward(tensors, kwargs, draws):
        t, eps = draws
        return [model.loss_given(variables, {"audio": first(tensors["x"])}, t, first(eps))]

    def sample(tensors, kwargs, draws):
        noise = first(tensors["x_noisy"])
        return [last(model.sample(variables, KEY, shape=noise.shape, noise=noise, **kwargs))]

    def inpaint(tensors, kwargs, draws):
        resamples, times = kwargs["num_resamples"], model.process.timesteps(kwargs["num_steps"])
        start, *noises = (first(draw) for draw in draws)
        # Only the last two draws of each step change the result of the original.
        noises = jnp.stack(noises).reshape(-1, resamples, *start.shape)[:, -2:]
        sampler = Inpaint(first(tensors["source"]), first(tensors["mask"]).astype(bool), redraw=resamples > 1)
        state, _ = advance(
            model.denoiser(variables), model.process, begin(start, times[0]), times, sampler, noise=noises
        )
        return [last(state.x)]

    return Built(variables["params"], back, {"forward": forward, "sample": sample, "inpaint": inpaint})


def autoregressive_case(args: dict, state: dict, example: dict) -> Built:
    model = aj.DiffusionAR(aj.nn.AppendChannels(unet_v0(args)), args["length"], args["num_splits"])
    variables, back = weights(model, {"audio": jnp.zeros((1, args["length"], args["in_channels"]))}, state)

    def forward(tensors, kwargs, draws):
        t, eps = draws
        loss = model.loss_given(variables, {"audio": first(tensors["x"])}, t[:, 0], first(eps))
        return [loss]

    def sample(tensors, kwargs, draws):
        noise, ladder_noise, *fresh = (first(draw) for draw in draws)
        return [
            last(model.sample_given(variables, noise, ladder_noise, jnp.stack(fresh), num_steps=kwargs["num_steps"]))
        ]

    return Built(variables["params"], back, {"forward": forward, "sample": sample})


def upsampler_case(args: dict, state: dict, example: dict) -> Built:
    model = DiffusionUpsampler(aj.DiffusionModel(aj.nn.AppendChannels(unet_v0(args))), args["upsample_factor"])
    length = args["upsample_factor"] * np.prod(args["factors"])
    variables, back = weights(model, {"audio": jnp.zeros((1, length, args["in_channels"]))}, state)

    def forward(tensors, kwargs, draws):
        t, eps = draws
        return [model.loss_given(variables, {"audio": first(tensors["x"])}, t, first(eps))]

    def sample(tensors, kwargs, draws):
        return [last(diffused(model, variables, first(tensors["downsampled"]), first(draws[0]), kwargs))]

    calls = {
        "reupsample": lambda tensors, kwargs, draws: [last(model.reupsampled(first(tensors["x"])))],
        "forward": forward,
        "sample": sample,
    }
    return Built(variables["params"], back, calls)


def vocoder_case(args: dict, state: dict, example: dict) -> Built:
    model = DiffusionVocoder(aj.DiffusionModel(aj.nn.AppendChannels(unet_v0(args))), mel(args))
    sound = first(example["waveform" if "waveform" in example else "x"])
    variables, back = weights(model, {"audio": sound}, state)

    def forward(tensors, kwargs, draws):
        t, eps = draws
        return [model.loss_given(variables, {"audio": first(tensors["x"])}, t, first(eps))]

    def sample(tensors, kwargs, draws):
        frames = swapped(tensors["spectrogram"])
        noise, channels = first(draws[0]), frames.shape[-1]
        noise = jnp.swapaxes(noise.reshape(-1, channels, noise.shape[1]), 1, 2)
        made = diffused(model, variables, frames, noise, kwargs)
        return [last(jnp.swapaxes(made.reshape(-1, channels, made.shape[1]), 1, 2))]

    calls = {
        "to_spectrogram": lambda tensors, kwargs, draws: [swapped(model.mel.encode(first(tensors["waveform"])))],
        "forward": forward,
        "sample": sample,
    }
    return Built(variables["params"], back, calls)


def diffusion_autoencoder_case(args: dict, state: dict, example: dict) -> Built:
    own = args["encoder_args"]
    made = encoder(args["encoder"], own, bottlenecks(args["bottleneck"], None, own["out_channels"]))
    injected = [0] * len(args["channels"])
    injected[args["inject_depth"]] = own["out_channels"]
    model = DiffusionAE(
        aj.DiffusionModel(unet_v0(args, context_channels=injected)),
        made,
        args["inject_depth"],
        args.get("latent_factor"),
    )
    variables, back = weights(model, {"audio": first(example["x"])}, state)

    def encode(tensors, kwargs, draws):
        return [last(model.encode(variables, first(tensors["x"]))[0])]

    def forward(tensors, kwargs, draws):
        (t, eps), x = draws, first(tensors["x"])
        latent, _ = model.encode(variables, x)
        return [model.loss_given(variables, {"audio": x}, latent, t, first(eps))]

    def decode(tensors, kwargs, draws):
        return [last(model.decode(variables, first(tensors["latent"]), first(draws[0]), **kwargs))]

    return Built(variables["params"], back, {"encode": encode, "forward": forward, "decode": decode})


BUILDERS = {
    "DiffusionModel(UNetV0, VDiffusion, VSampler)": diffusion_case,
    "VInpainter(net of DiffusionModel(UNetV0))": diffusion_case,
    "DiffusionAR(UNetV0)": autoregressive_case,
    "DiffusionUpsampler(UNetV0)": upsampler_case,
    "DiffusionVocoder(UNetV0)": vocoder_case,
    "DiffusionAE(UNetV0)": diffusion_autoencoder_case,
}
