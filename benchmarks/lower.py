"""Lowers the training step and the sampler of the named configs for TPU and CUDA, from shapes alone.

    python -m benchmarks.lower [configs/long.py configs/crisp.py:small ...]

It needs no TPU or GPU, allocates no arrays and reads no weights. `jax.export` makes the program for an accelerator's
compiler, or fails.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export

from archijax.contract import Codec
from archijax.models import reconstruct
from archijax.nn.attention import portable
from train.__main__ import load_config
from train.config import TrainConfig
from train.plan import batch_shapes, state_shapes
from train.setup import training_step

PLATFORMS = ("tpu", "cuda")
NAMED = ("long", "crisp", "upsampler", "vocoder", "diffusion_autoencoder", "unconditional", "stable_audio")


def lowered(config: TrainConfig) -> dict[str, Callable[[], jax.export.Exported]]:
    """Returns functions by name, which lower the training step and the sampler of a configuration."""
    model = config.model.build()
    state, batch = state_shapes(config, model), batch_shapes(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {
        "training step": lambda: _export(jax.jit(training_step(config, model)), state, batch, key),
        "sampler": lambda: _export(_sampler(config, model), state.variables(state.ema), key, batch),
    }


def _sampler(config: TrainConfig, model: Any) -> Callable:
    """Returns a function that makes the samples of a training run, with all denoising steps."""

    @jax.jit
    def sample(variables: dict, key: jax.Array, batch: dict) -> jax.Array:
        if isinstance(model, Codec):
            return reconstruct(model, variables, batch["audio"][:1])
        conditioning = {name: batch[name] for name in ("tokens", "token_mask") if name in batch}
        shape = batch["audio"].shape
        return model.sample(
            variables, key, shape=shape, num_steps=config.sample_steps, guidance=config.sample_guidance_scale,
            **conditioning,
        )  # fmt: skip

    return sample


def _export(function: Any, *shapes: Any) -> jax.export.Exported:
    # XLA does not promise to support this call in the future. It is only in training steps, whose exports are not kept.
    unchecked = [jax.export.DisabledSafetyCheck.custom_call("LayoutConstraint")]
    with portable():
        return jax.export.export(function, platforms=PLATFORMS, disabled_checks=unchecked)(*shapes)


def main(places: list[str]) -> int:
    """Lowers all programs, prints the time of each, and returns the number of failures."""
    failed = 0
    for place in places or [f"configs/{name}.py" for name in NAMED]:
        for what, lower in lowered(load_config(place)).items():
            began = time.perf_counter()
            try:
                size = f"{len(lower().mlir_module_serialized) / 2**20:.1f} MiB"
            except Exception as error:
                failed += 1
                size = f"FAILED: {str(error).strip().splitlines()[0][:300]}"
            took = time.perf_counter() - began
            print(f"{Path(place).stem:<14}{what:<15}{', '.join(PLATFORMS):<11}{took:6.1f} s  {size}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
