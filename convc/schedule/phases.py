"""Loops over phases: what a transposed convolution computes at i depends on i modulo its stride."""

from __future__ import annotations

from convc.loops.ir import Binary, Const, walk
from convc.loops.rewrites import reorder, split
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import expressions, subexpressions
from convc.schedule.structure import Loop, Structure, analysed, depends_on

_PHASE = "_phase"


def is_phase(loop: Loop) -> bool:
    """True for a loop over phases."""
    return loop.var.endswith(_PHASE)


def split_phases(structure: Structure) -> Structure:
    """Output loops that accesses divide by a stride, as a loop over phases, outermost, and one in steps of the stride.

    Inside a phase the accesses are linear, and each tap that is left meets an input element:

    before: for i in 8 { for c in 3 { y[i] += x[c, i // 2] * w[c, i % 2] } }
    after:  for i_phase in 2 { for i in 4 { for c in 3 { y[i*2 + i_phase] += x[c, i] * w[c, i_phase] } } }
    """
    for loop in structure.outputs:
        stride = _stride(structure, loop)
        if stride is None:
            continue
        phase = f"{loop.var}{_PHASE}"
        kernel = split(structure.kernel, loop.var, stride, loop.var, phase)
        around = [x.var for x in structure.outputs]
        for outer in reversed(around[: around.index(loop.var) + 1]):
            kernel = reorder(kernel, outer, phase)
        structure = analysed(simplify_kernel(kernel))
    return structure


def _stride(structure: Structure, loop: Loop) -> int | None:
    """The number by which accesses divide a loop's variable, if it is one and divides the extent.

    Neighbours in the output's memory stay together: those are the channels of a grouped convolution.
    """
    if not structure.reductions or loop.extent is None or structure.output_step(loop.var) == 1:
        return None
    divisors = {
        e.b
        for stmt in walk(structure.kernel.body)
        for expr in expressions(stmt)
        for e in subexpressions(expr)
        if isinstance(e, Binary) and e.op in ("//", "%") and depends_on(e.a, loop.var)
    }
    if len(divisors) != 1:
        return None
    (divisor,) = divisors
    if not isinstance(divisor, Const) or divisor.value <= 1 or loop.extent % divisor.value:
        return None
    return int(divisor.value)
