"""Reductions over neighbours: partial results in vectors, folded at the end."""

from __future__ import annotations

from convc.loops.ir import Expr, Kernel, Select
from convc.loops.rewrites import reduction_over, split_reduction, unroll, vectorize
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import subexpressions
from convc.schedule.finishing import finish, parallel_top
from convc.schedule.nesting import joined, runs_on
from convc.schedule.structure import Structure, depends_on, loads_of
from convc.schedule.vector_loop import lanes_for
from convc.target import Target

# Vectors of partial results that hide the latency of an addition; a reduction of fewer lanes' worth stays as it is.
_PARTIAL_VECTORS = 4


def folded(structure: Structure, target: Target) -> Kernel | None:
    """The innermost reduction in vectors, where every access is contiguous along it or stays; None otherwise."""
    structure = _one_reduction(structure)
    lanes = lanes_for(structure, target)
    if not structure.reductions or lanes < 2:
        return None
    inner = structure.reductions[-1]
    reduction = reduction_over(structure.kernel, inner.var)
    if reduction is None or reduction.extent < _PARTIAL_VECTORS * lanes:
        return None
    steps = [structure.step(x.buffer, x.index, inner.var) for x in loads_of(reduction.update)]
    if 1 not in steps or not set(steps) <= {0, 1} or _is_guarded(reduction.update, inner.var):
        return None
    vectors = min(_PARTIAL_VECTORS, reduction.extent // (_PARTIAL_VECTORS * lanes))
    kernel = simplify_kernel(split_reduction(structure.kernel, inner.var, lanes, vectors))
    kernel = unroll(kernel, f"{inner.var}v")
    for suffix in "lf":
        kernel = vectorize(kernel, f"{inner.var}{suffix}")
    return finish(parallel_top(kernel), target, "folded", f"{vectors}x{lanes}")


def _one_reduction(structure: Structure) -> Structure:
    """Reductions that run on in every access become one."""
    while len(structure.reductions) > 1:
        outer, inner = structure.reductions[-2:]
        if inner.extent is None or outer.extent is None or not runs_on(structure, outer, inner):
            break
        again = joined(structure, outer, inner, f"{outer.var}{inner.var}")
        if again is None:
            break
        structure = again
    return structure


def _is_guarded(expr: Expr, var: str) -> bool:
    """True if a condition depends on a variable."""
    return any(isinstance(e, Select) and depends_on(e.condition, var) for e in subexpressions(expr))
