"""Initialises large nets fast: only the operations that compute parameters are run, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun


def initialize(init: Callable, *args: Any) -> Any:
    """Returns the result of ``init(*args)``, without the forward pass and without compiling one large program.

    ``variables = initialize(net.init, key, x, time)`` replaces ``variables = net.init(key, x, time)``.

    ``jax.jit(init)`` inlines the random generator once per parameter. The compilation of a net with hundreds of
    parameters then takes minutes. A plain call of ``init`` also computes the output of the net. This function traces
    ``init``, drops the operations that the result does not need, and runs the others one by one. Each operation is
    compiled once per shape.

    Args:
        init: a pure function such as ``net.init``.
        args: the arguments of ``init``, such as a key, x and time. An array of which only the shape matters, such as x,
            can be a ``jax.ShapeDtypeStruct``.

    Returns:
        The result of ``init(*args)``.

    Raises:
        TypeError: the result depends on the values of a ``ShapeDtypeStruct``.
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
