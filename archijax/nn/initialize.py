"""Parameters of a large net in seconds: run only what the parameters depend on, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun


def initialize(init: Callable, *args: Any) -> Any:
    """``init(*args)`` without the forward pass and without compiling one large program.

    ``jax.jit(init)`` inlines the random generator once per parameter, which takes minutes to compile for a net of some
    hundred parameters; calling ``init`` plainly computes the net's output too. Here ``init`` is traced, the operations
    that its result does not need are dropped, and the rest run one by one, each compiled once per shape.

    Args:
        init: a pure function such as ``net.init``.
        args: its arguments; arrays, keys, or ``jax.ShapeDtypeStruct`` where only the shape matters.

    Returns:
        What ``init`` returns, the same numbers.

    Raises:
        TypeError: the result depends on values of a ``ShapeDtypeStruct``.
    """
    closed, shapes = jax.make_jaxpr(init, return_shape=True)(*args)
    jaxpr = closed.jaxpr
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed.update(v for v in equation.invars if not isinstance(v, Literal))

    leaves = jax.tree.leaves(args)
    for variable, leaf in zip(jaxpr.invars, leaves, strict=True):
        if variable in needed and isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError("the result depends on the values of an argument that was given as a shape only")
    sliced = ClosedJaxpr(jaxpr.replace(eqns=equations[::-1]), closed.consts)
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(sliced)(*leaves))
