"""What XLA's compilers must be told."""

from typing import Any


def compiler_options(platform: str) -> dict[str, Any]:
    """``jax.jit(..., compiler_options=...)`` for a gradient or a training step on "cpu", "gpu" or "tpu".

    What the backward pass computes again is kept apart by barriers. XLA's CPU compiler takes these away before it looks
    for what is computed twice, and so keeps all of it. The other compilers need nothing.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if platform == "cpu" else {}
