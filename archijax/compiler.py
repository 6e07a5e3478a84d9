"""Options and hints for XLA's compilers."""

from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def compiler_options(platform: str) -> dict[str, Any]:
    """Returns the argument ``compiler_options`` of ``jax.jit`` for "cpu", "gpu" or "tpu". Only "cpu" needs options.

    The options disable two passes of XLA's CPU compiler. The first pass removes barriers before common subexpressions
    are eliminated, so that values that the backward pass should recompute stay in memory instead. The second pass
    splits sums in two to make them more precise. This precision is not needed, and the pass makes the compilation of a
    large net take a fifth longer.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander,tree_reduction_rewriter"} if platform == "cpu" else {}


def written(x: Any) -> Any:
    """Returns x, with a barrier on CPU, so that x is computed once and stored.

    Without the barrier, XLA's CPU compiler computes x again for every operation that uses x. On accelerators there is
    no barrier, because it would split one kernel into two.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@jax.jit
def row_major(x: jax.Array) -> jax.Array:
    """Returns x, in row-major memory layout on NVIDIA GPUs.

    cuDNN returns the gradient of a convolution kernel transposed. If the gradient stays transposed, XLA computes the
    new parameter, the new state of the optimizer and the new moving average in the transposed layout, and copies all of
    them back. If this function is applied to the gradient, only the gradient is copied.
    """
    layout = Layout(major_to_minor=tuple(range(x.ndim)))
    return jax.lax.platform_dependent(x, cuda=lambda x: with_layout_constraint(x, layout), default=lambda x: x)
