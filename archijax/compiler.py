"""What XLA's compilers must be told."""

from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def compiler_options(platform: str) -> dict[str, Any]:
    """``jax.jit(..., compiler_options=...)`` for "cpu", "gpu" or "tpu"; the other compilers need nothing.

    XLA's CPU compiler has two passes that do harm here. One takes away the barriers that keep apart what the backward
    pass computes again, before it looks for what is computed twice, and so keeps all of it in memory. The other splits
    sums in two for the sake of precision, which they have without it, and adds a fifth to a large net's compile time.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander,tree_reduction_rewriter"} if platform == "cpu" else {}


def written(x: Any) -> Any:
    """x, which CPU programs write down once for all that reads it.

    Left to itself XLA's CPU compiler computes it again for every reader. Those of accelerators make one kernel of a
    value and its readers, which a barrier would tear apart.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@jax.jit
def row_major(x: jax.Array) -> jax.Array:
    """x, which programs for NVIDIA GPUs have in memory with the last axis innermost.

    cuDNN gives a convolution kernel's gradient transposed. Left to itself XLA updates all that belongs to the parameter
    in that order, and copies every part of it back; so it is the gradient alone that is copied.
    """
    layout = Layout(major_to_minor=tuple(range(x.ndim)))
    return jax.lax.platform_dependent(x, cuda=lambda x: with_layout_constraint(x, layout), default=lambda x: x)
