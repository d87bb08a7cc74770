"""Kernels in which everything moves along the vector loop: depthwise convolutions, pooling, means over an image."""

from __future__ import annotations

from convc.loops.ir import Kernel, Load, Select, Var
from convc.loops.rewrites import sink, speculate, split, unroll, vectorize
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import subexpressions
from convc.schedule.choices import Picker
from convc.schedule.constants import lanes_innermost, pad_vectors
from convc.schedule.finishing import finish, has_loop, parallel_top
from convc.schedule.nesting import ordered
from convc.schedule.phases import is_phase
from convc.schedule.structure import Loop, Structure, analysed
from convc.schedule.sums import summed_in_parts
from convc.schedule.tiles import Heights
from convc.schedule.vector_loop import lanes_for
from convc.target import Target

# Unrolled statements per kernel body: enough to hide latency, little enough to compile quickly.
_UNROLL_BUDGET = 160


def together(structure: Structure, vector: Loop, target: Target, picker: Picker) -> Kernel:
    """All accesses move along the vector loop together; rows share what they load.

    The phases of a strided window are unrolled: which taps they have is known then.
    """
    structure, phases = _phases_inside(structure)
    kernel = structure.kernel
    lanes = vector.lanes(lanes_for(structure, target))
    taps = 1
    for loop in structure.reductions:
        taps *= loop.extent or 1 << 20
    small = taps <= 25
    rows = [
        x
        for x in structure.outputs
        if x.var != vector.var and x.extent not in (1, None) and x.var not in phases
    ]
    row = min(rows, key=lambda x: structure.output_step(x.var) or 1 << 60, default=None)
    guarded = _has_guards(structure, phases)
    height = 1
    if small and row is not None and not guarded:
        taps *= max(1, len(phases)) * 2 if phases else 1
        limit = min(target.vector_registers // 2 - 2, max(1, _UNROLL_BUDGET // taps))
        height = picker.height(Heights(row.extent or 1, limit))
    if row is not None and height > 1:
        kernel = ordered(structure, [row.var, *phases])
        kernel = split(kernel, row.var, height, "jt", "jp", "overlap")
    kernel = split(kernel, vector.var, lanes, "ob", "ol", "guard")
    kernel = simplify_kernel(summed_in_parts(kernel, structure.reductions))
    if row is not None and height > 1:
        kernel = sink(kernel, "jp")
    kernel = sink(kernel, "ol")
    kernel = lanes_innermost(kernel, structure, vector)
    kernel = pad_vectors(kernel, structure, vector.var, lanes)
    kernel = speculate(simplify_kernel(kernel))
    for loop in structure.reductions:
        if small and not guarded and has_loop(kernel, loop.var):
            kernel = unroll(kernel, loop.var)
    for var in (*(["jp"] if height > 1 else []), *phases):
        kernel = unroll(kernel, var)
    kernel = vectorize(kernel, "ol")
    kernel = parallel_top(kernel)
    return finish(kernel, target, "lanes", f"{height}x{lanes}")


def _phases_inside(structure: Structure) -> tuple[Structure, tuple[str, ...]]:
    """The loops over phases innermost of the output loops, and their names."""
    phases = tuple(x.var for x in structure.outputs if is_phase(x))
    return analysed(ordered(structure, phases)), phases


def _has_guards(structure: Structure, phases: tuple[str, ...]) -> bool:
    """True if what is read is guarded by more than which tap of which phase it is."""
    known = {*phases, *(x.var for x in structure.reductions)}
    return any(
        isinstance(e, Select)
        and any(isinstance(x, Load) for y in (e.then, e.otherwise) for x in subexpressions(y))
        and not {v.name for v in subexpressions(e.condition) if isinstance(v, Var)} <= known
        for u in structure.updates
        for e in subexpressions(u.value)
    )
