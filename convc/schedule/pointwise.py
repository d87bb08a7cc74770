"""Kernels without a reduction, in vectors or in squares, and what has no vectors at all."""

from __future__ import annotations

from convc.loops.ir import Kernel, Load
from convc.loops.rewrites import split, unroll, vectorize
from convc.loops.simplify import simplify_kernel
from convc.schedule.constants import is_constant
from convc.schedule.finishing import finish, parallel_top
from convc.schedule.nesting import joined, ordered, runs_on
from convc.schedule.structure import Loop, Structure, analysed
from convc.schedule.sums import summed_in_parts
from convc.schedule.vector_loop import lanes_for
from convc.target import Target


def pointwise(structure: Structure, vector: Loop, target: Target) -> Kernel:
    """Loops in the order of the output's memory; those that run on in every access become one, then vectors."""
    order = sorted(structure.outputs, key=lambda x: -(structure.output_step(x.var) or 1 << 60))
    structure = analysed(ordered(structure, [x.var for x in order]))
    inner = next(x for x in structure.outputs if x.var == vector.var)
    while len(structure.outputs) > 1:
        outer = structure.outputs[-2]
        if inner.extent is None or outer.extent is None or not runs_on(structure, outer, inner):
            break
        fused = f"{outer.var}{inner.var}"
        again = joined(structure, outer, inner, fused)
        if again is None or again.output_step(fused) != 1:
            break
        structure, inner = again, again.outputs[-1]
    lanes = inner.lanes(lanes_for(structure, target))
    kernel = split(structure.kernel, inner.var, lanes, "ib", "il", "guard")
    kernel = vectorize(simplify_kernel(kernel), "il")
    kernel = parallel_top(kernel)
    return finish(kernel, target, "pointwise", f"{lanes}")


# Sides of the squares that a transposition goes through: a cache line of rows, and lines that a cache holds.
_SQUARE = 16


def transposed(structure: Structure, target: Target) -> Kernel | None:
    """Square by square, where neighbours of the output aren't neighbours in what is read; None otherwise.

    What is read and what is written are then whole cache lines. What is computed on the way is computed in vectors of
    neighbours that were read, which are stored one by one.
    """
    if structure.reductions:
        return None
    loads = dict.fromkeys(x for x in structure.loads() if not is_constant(structure, x))
    written = next((x for x in structure.outputs if structure.output_step(x.var) == 1), None)
    if len(loads) != 1 or written is None:
        return None
    (load,) = loads
    steps = {x.var: structure.step(load.buffer, load.index, x.var) for x in structure.outputs}
    read = next((x for x in structure.outputs if steps[x.var] == 1), None)
    if read is None or read.var == written.var or steps[written.var] is None:
        return None
    if min(written.extent or 1, read.extent or 1) < 4 or structure.output_step(read.var) is None:
        return None
    computed = not isinstance(structure.store.value, Load)
    steady = all(structure.step(x.buffer, x.index, read.var) is not None for x in structure.loads())
    if computed and not steady:
        return None
    kernel = structure.kernel
    tall = min(2 * _SQUARE, written.extent or 1)
    wide = min(_SQUARE, read.extent or 1)
    if computed:
        wide = min(lanes_for(structure, target), 1 << (read.extent or 1).bit_length() - 1)
    # The last square may compute some elements again: they are read from a buffer that isn't written.
    kernel = split(kernel, written.var, tall, "at", "ai", "overlap")
    kernel = simplify_kernel(split(kernel, read.var, wide, "bt", "bi", "overlap"))
    kernel = ordered(analysed(kernel), ["at", "bt", "ai", "bi"])
    kernel = vectorize(kernel, "bi") if computed else unroll(kernel, "bi")
    return finish(parallel_top(kernel), target, "transposed", f"{tall}x{wide}")


def scalar(structure: Structure, target: Target) -> Kernel:
    kernel = summed_in_parts(structure.kernel, structure.reductions)
    return finish(parallel_top(kernel), target, "scalar", "")
