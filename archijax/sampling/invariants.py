"""Moves loop-invariant code out of a loop: values that are the same in every step are computed before the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jax.tree_util import Partial

# Calls that are inlined: jit and rematerialisation, under their names in several versions of JAX.
CALLS = ("jit", "pjit", "remat", "remat2", "checkpoint")


def hoisted(step: Callable, *example: Any) -> Partial:
    """Returns a function that a loop can call instead of ``step``. Values that do not depend on the arguments of
    ``step`` are computed only once, by ``hoisted``.

    ``jax.lax.scan`` does not move computations out of a loop, and XLA moves only few. Without ``hoisted``, every step
    of a sampler would cast the weights to the type of the computation, and compute the same attention keys and values
    from the same text.

    Args:
        step: a pure function, which may close over arrays. Calls of jit and checkpoint inside ``step`` are inlined and
            lose their options. To differentiate the loop, wrap the returned function in `jax.checkpoint`.
        example: example arguments of ``step``, or their shapes as ``jax.ShapeDtypeStruct``.

    Returns:
        A function that takes arguments with the shapes of ``example``, and returns the result of ``step``, up to
        rounding. The function is a pytree that holds the computed values. Therefore one jitted function can return the
        function, and another jitted function can call the function in a loop.
    """
    traced, shapes = jax.make_jaxpr(step, return_shape=True)(*example)
    count = len(traced.consts)
    flat = jax.make_jaxpr(lambda *leaves: _inlined(traced.jaxpr, leaves))(*traced.consts, *jax.tree.leaves(example))
    constants = [*flat.jaxpr.constvars, *flat.jaxpr.invars[:count]]
    fixed = set(constants)

    def is_fixed(equation: JaxprEqn) -> bool:
        return not equation.effects and fixed.issuperset(_read(equation))

    before: list[JaxprEqn] = []
    for equation in flat.jaxpr.eqns:
        if is_fixed(equation):
            before.append(equation)
            fixed.update(equation.outvars)

    # A step reads the fixed values that were computed before the loop. Only cheap values are computed again in each
    # step, such as broadcasts, which cost nothing and are larger than their inputs.
    inside: list[JaxprEqn] = []
    wanted = {v for v in flat.jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(flat.jaxpr.eqns):
        if not is_fixed(equation) or (_is_cheap(equation) and not wanted.isdisjoint(equation.outvars)):
            inside.append(equation)
            wanted.update(_read(equation))
    inside.reverse()
    wanted.difference_update(v for equation in inside for v in equation.outvars)
    kept = [v for v in [*constants, *(v for equation in before for v in equation.outvars)] if v in wanted]

    first = flat.jaxpr.replace(invars=flat.jaxpr.invars[:count], outvars=kept, eqns=before)
    values = jax.jit(jaxpr_as_fun(ClosedJaxpr(first, flat.consts)))(*traced.consts)
    rest = flat.jaxpr.replace(constvars=[], invars=[*kept, *flat.jaxpr.invars[count:]], eqns=inside)
    flat_run, structure = jaxpr_as_fun(ClosedJaxpr(rest, ())), jax.tree.structure(shapes)

    def run(values: list[Any], *args: Any) -> Any:
        return jax.tree.unflatten(structure, flat_run(*values, *jax.tree.leaves(args)))

    return Partial(run, values)


def _read(equation: JaxprEqn) -> list[Var]:
    return [v for v in equation.invars if not isinstance(v, Literal)]


def _is_cheap(equation: JaxprEqn) -> bool:
    name, dtype = equation.primitive.name, equation.outvars[0].aval.dtype
    widens = name == "convert_element_type" and dtype.itemsize > equation.invars[0].aval.dtype.itemsize
    return widens or name in ("broadcast_in_dim", "iota")


def _is_call(equation: JaxprEqn) -> bool:
    # A backward pass in the step keeps its rematerialisation.
    return equation.primitive.name in CALLS and not equation.params.get("differentiated")


def _inlined(jaxpr: Jaxpr, leaves: Sequence[Any]) -> list[Any]:
    """Evaluates a jaxpr with its calls of jit and checkpoint inlined. The leaves are the constants and the arguments of
    the jaxpr, as arrays or numbers.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], leaves, strict=True))
    wanted = {v for e in jaxpr.eqns for v in _read(e)}.union(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def value(v: Var | Literal) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    for is_call, group in itertools.groupby(jaxpr.eqns, _is_call):
        equations = list(group)
        if not is_call:
            outputs = [v for equation in equations for v in equation.outvars if v in wanted]
            inputs = list({v: None for equation in equations for v in _read(equation) if v in values})
            section = jaxpr.replace(constvars=[], invars=inputs, outvars=outputs, eqns=equations)
            values.update(zip(outputs, jaxpr_as_fun(ClosedJaxpr(section, ()))(*map(value, inputs)), strict=True))
            continue
        for equation in equations:
            inner, inputs = equation.params["jaxpr"], list(map(value, equation.invars))
            if isinstance(inner, ClosedJaxpr):
                inner, inputs = inner.jaxpr, [*inner.consts, *inputs]
            with jax.named_scope(str(equation.source_info.name_stack)):
                values.update(zip(equation.outvars, _inlined(inner, inputs), strict=True))
    return list(map(value, jaxpr.outvars))
