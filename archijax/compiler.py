"""Defines options and hints for XLA's compilers."""

from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def compiler_options(platform: str) -> dict[str, Any]:
    """Returns a dict for the argument ``compiler_options`` of ``jax.jit``. For "gpu" and "tpu", the dict is empty.

    For "cpu", the options disable two passes of the compiler. The first pass removes optimization barriers. Without the
    barriers, values that the backward pass should recompute stay in memory. The second pass splits sums in two for more
    precision. Nets do not need this precision, and the pass adds 20 % to the compilation time of a large net.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander,tree_reduction_rewriter"} if platform == "cpu" else {}


def written(x: Any) -> Any:
    """Returns the array x unchanged. On CPU, an optimization barrier makes XLA compute x once and store x.

    Without the barrier, XLA's CPU compiler computes x again for every operation that uses x. On GPU and TPU there is no
    barrier, because a barrier would split one kernel into two.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@jax.jit
def row_major(x: jax.Array) -> jax.Array:
    """Returns the array x unchanged. On NVIDIA GPUs, the result has a row-major memory layout.

    cuDNN returns the gradient of a convolution kernel in a transposed layout. Without this function, XLA also computes
    the new parameter, optimizer state and moving average in the transposed layout, and copies all three to row-major
    arrays. With this function, XLA copies only the gradient.
    """
    layout = Layout(major_to_minor=tuple(range(x.ndim)))
    return jax.lax.platform_dependent(x, cuda=lambda x: with_layout_constraint(x, layout), default=lambda x: x)
