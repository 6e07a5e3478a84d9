"""Options and hints for XLA's compilers."""

from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint


def compiler_options(platform: str) -> dict[str, Any]:
    """The argument ``compiler_options`` of ``jax.jit`` for "cpu", "gpu" or "tpu". Only "cpu" needs options.

    They disable two passes of XLA's CPU compiler. One removes barriers before common subexpressions are eliminated. The
    values that the backward pass should compute again then stay in memory. The other splits sums in two to make them
    more precise, which they do not need, and makes the compilation of a large net a fifth longer.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander,tree_reduction_rewriter"} if platform == "cpu" else {}


def written(x: Any) -> Any:
    """x, with a barrier on CPU, so that x is computed once and stored.

    Without it, XLA's CPU compiler computes x again for every operation that uses it. On accelerators, a barrier would
    split the kernel of x and these operations.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@jax.jit
def row_major(x: jax.Array) -> jax.Array:
    """x, in row-major memory layout on NVIDIA GPUs.

    cuDNN returns the gradient of a convolution kernel transposed. Without this, XLA computes the updates of the
    parameter, the optimizer's state and the average in the transposed layout, and copies each of them back. With it,
    only the gradient is copied.
    """
    layout = Layout(major_to_minor=tuple(range(x.ndim)))
    return jax.lax.platform_dependent(x, cuda=lambda x: with_layout_constraint(x, layout), default=lambda x: x)
