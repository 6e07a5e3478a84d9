"""Loop-invariant code motion: what a step computes only from what never changes is computed once, before the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jax.tree_util import Partial

# Calls whose insides are looked at: jit and rematerialisation, by the names that versions of JAX give them.
CALLS = ("jit", "pjit", "remat", "remat2", "checkpoint")


def hoisted(step: Callable, *example: Any) -> Partial:
    """``step`` for a loop: what does not depend on its arguments is computed here, once.

    ``jax.lax.scan`` compiles a body as it stands, and XLA leaves most of it inside. Every step of a sampler would cast
    the weights to the type of the computation, and make the same keys and values of the same text.

    Args:
        step: pure; may close over arrays. Calls of jit and checkpoint in it are inlined and lose their options: for a
            gradient through the loop wrap the result in `jax.checkpoint`.
        example: its arguments, or their shapes.

    Returns:
        A function that returns what ``step`` returns, to rounding, for arguments of these shapes. It is a pytree that
        holds the values computed here: one jitted function may return it, and another take it and loop over it.
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

    # Values go into the loop where a step reads them, except broadcasts and the like, which cost nothing and are larger
    # than what they are made of: these are made again.
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

    def run(values: list[jax.Array], *args: Any) -> Any:
        return jax.tree.unflatten(structure, flat_run(*values, *jax.tree.leaves(args)))

    return Partial(run, values)


def _read(equation: JaxprEqn) -> list[Var]:
    return [v for v in equation.invars if not isinstance(v, Literal)]


def _is_cheap(equation: JaxprEqn) -> bool:
    name, dtype = equation.primitive.name, equation.outvars[0].aval.dtype
    widens = name == "convert_element_type" and dtype.itemsize > equation.invars[0].aval.dtype.itemsize
    return widens or name in ("broadcast_in_dim", "iota")


def _is_call(equation: JaxprEqn) -> bool:
    # A backward pass in the step, with what it computes again, stays as it is.
    return equation.primitive.name in CALLS and not equation.params.get("differentiated")


def _inlined(jaxpr: Jaxpr, leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """What a program of constants and arguments gives, evaluated without the calls that it is divided into."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], leaves, strict=True))
    wanted = {v for e in jaxpr.eqns for v in _read(e)}.union(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def value(v: Var | Literal) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    for is_call, group in itertools.groupby(jaxpr.eqns, _is_call):
        equations = list(group)
        if not is_call:
            outputs = [v for equation in equations for v in equation.outvars if v in wanted]
            inputs = list({v: None for equation in equations for v in _read(equation) if v in values})
            part = jaxpr.replace(constvars=[], invars=inputs, outvars=outputs, eqns=equations)
            values.update(zip(outputs, jaxpr_as_fun(ClosedJaxpr(part, ()))(*map(value, inputs)), strict=True))
            continue
        for equation in equations:
            inner, inputs = equation.params["jaxpr"], list(map(value, equation.invars))
            if isinstance(inner, ClosedJaxpr):
                inner, inputs = inner.jaxpr, [*inner.consts, *inputs]
            with jax.named_scope(str(equation.source_info.name_stack)):
                values.update(zip(equation.outvars, _inlined(inner, inputs), strict=True))
    return list(map(value, jaxpr.outvars))
