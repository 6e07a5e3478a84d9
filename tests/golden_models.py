"""Builders of the golden cases of models."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_layout import Built, first, last

import archijax as aj
from archijax import convert
from archijax.sampling import Inpaint, advance, begin

UNET_V0 = set(inspect.signature(aj.UNetV0).parameters)
COPIES = ("net.", "diffusion.net.", "sampler.net.")  # the original's models hold their net three times


def unet_v0(args: dict, **others: Any) -> Any:
    """The U-Net of a case, from the arguments that it knows."""
    return aj.UNetV0(**{name: value for name, value in {**args, **others}.items() if name in UNET_V0})


def weights(model: Any, batch: dict, state: dict, parts: dict[tuple, tuple[Any, tuple[str, ...]]]) -> tuple[dict, Any]:
    """(parameters, their way back) of a model whose parts, by path, have the given names in the state_dict."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))["params"]
    table = [
        dataclasses.replace(
            entry,
            path=(*path, *entry.path),
            names=tuple(prefix + name for prefix in prefixes for name in entry.names),
        )
        for path, (module, prefixes) in parts.items()
        for entry in convert.entries(module, functools.reduce(operator.getitem, path, shapes))
    ]
    return convert.from_torch(table, state), lambda params: convert.to_torch(table, params)


def diffusion_case(args: dict, state: dict, example: dict) -> Built:
    model = aj.DiffusionModel(unet_v0(args))
    sound = first(next(iter(example.values())))
    params, back = weights(model, {"audio": sound}, state, {("net",): (model.net, COPIES)})
    variables = {"params": params, "frozen": {}}

    def forward(tensors, kwargs, draws):
        t, eps = draws
        return [np.asarray(model.loss_given(variables, {"audio": first(tensors["x"])}, jnp.asarray(t), first(eps)))]

    def sample(tensors, kwargs, draws):
        noise = first(tensors["x_noisy"])
        return [last(model.sample(variables, jax.random.key(0), shape=noise.shape, noise=noise, **kwargs))]

    def inpaint(tensors, kwargs, draws):
        resamples, times = kwargs["num_resamples"], model.process.times(kwargs["num_steps"])
        start, *noises = (first(draw) for draw in draws)
        # Of each step's draws no more than the last two change the original's result.
        noises = jnp.stack(noises).reshape(-1, resamples, *start.shape)[:, -2:]
        sampler = Inpaint(first(tensors["source"]), first(tensors["mask"]).astype(bool), redraw=resamples > 1)
        state, _ = advance(
            model.denoiser(variables), model.process, begin(start, times[0]), times, sampler, noise=noises
        )
        return [last(state.x)]

    return Built(params, back, {"forward": forward, "sample": sample, "inpaint": inpaint})


def autoregressive_case(args: dict, state: dict, example: dict) -> Built:
    net = aj.AppendChannels(unet_v0(args))
    model = aj.DiffusionAR(net, args["length"], args["num_splits"])
    example = {"audio": jnp.zeros((1, args["length"], args["in_channels"]))}
    params, back = weights(model, example, state, {("net", "net"): (net.net, COPIES)})
    variables = {"params": params, "frozen": {}}

    def forward(tensors, kwargs, draws):
        t, eps = draws
        loss = model.loss_given(variables, {"audio": first(tensors["x"])}, jnp.asarray(t)[:, 0], first(eps))
        return [np.asarray(loss)]

    def sample(tensors, kwargs, draws):
        noise, ladder_noise, *fresh = (first(draw) for draw in draws)
        return [
            last(model.sample_given(variables, noise, ladder_noise, jnp.stack(fresh), num_steps=kwargs["num_steps"]))
        ]

    return Built(params, back, {"forward": forward, "sample": sample})


BUILDERS = {
    "DiffusionModel(UNetV0, VDiffusion, VSampler)": diffusion_case,
    "VInpainter(net of DiffusionModel(UNetV0))": diffusion_case,
    "DiffusionAR(UNetV0)": autoregressive_case,
}
