"""How long the README net of audio-diffusion-pytorch (217M parameters, 2^18 stereo samples) takes to start and run."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import archijax as aj

REPEATS = 5

NET = aj.UNetV0(
    channels=(8, 32, 64, 128, 256, 512, 512, 1024, 1024),
    factors=(1, 4, 4, 4, 2, 2, 2, 2, 2),
    items=(1, 2, 2, 2, 2, 2, 2, 4, 4),
    attentions=(0, 0, 0, 0, 0, 1, 1, 1, 1),
    attention_heads=8,
    attention_features=64,
)


def timed(name: str, function: Callable, repeats: int = 1):
    """Prints the median seconds of a function's calls and returns what it returned last."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = jax.block_until_ready(function())
        seconds.append(time.perf_counter() - began)
    print(f"{name:<20}{np.median(seconds):8.2f} s", flush=True)
    return result


def main() -> None:
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform} ({device.device_kind}), {platform.machine()}")
    x, t = jnp.zeros((1, 2**18, 2)), jnp.full(1, 0.5)

    def energy(variables, x, t):
        return jnp.mean(NET.apply(variables, x, t) ** 2)

    variables = timed("initialise", lambda: aj.initialize(NET.init, jax.random.key(0), x, t))
    forward = timed("compile forward", jax.jit(NET.apply).lower(variables, x, t).compile)
    gradient = timed("compile gradient", jax.jit(jax.grad(energy)).lower(variables, x, t).compile)
    jax.block_until_ready((forward(variables, x, t), gradient(variables, x, t)))
    timed("forward", lambda: forward(variables, x, t), REPEATS)
    timed("gradient", lambda: gradient(variables, x, t), REPEATS)
    memory = gradient.memory_analysis()
    if memory is not None:
        print(f"{'gradient memory':<20}{memory.temp_size_in_bytes / 2**30:8.2f} GiB beside the weights")
