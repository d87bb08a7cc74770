"""Schedules for CPUs, chosen by a kernel's loop structure and the target's registers.

- `tiled`: a sum of products in which one factor moves with the vector loop and the other does not (convolution, matrix
  product): a register tile of rows x vectors, the moving factor packed in the order that it is read.
- `accumulated`: the same, where both factors are as large as the sum is long (a convolution's weight gradient).
- `lanes`: everything moves along the vector loop together (depthwise convolution, pooling, means over an image).
- `pointwise`: no reduction: the innermost contiguous loops become one, in vectors.
- `folded`: a reduction whose elements are neighbours in memory: partial results in vectors, folded at the end.
- `transposed`: a copy whose neighbours are neighbours on one side only: in squares.
- `scalar`: what has no loop that is contiguous in the output and linear everywhere else.
"""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import Block, For, Kernel, Load, LoopKind, Role, Stmt
from convc.loops.rewrites import use_border
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import map_block
from convc.schedule.accumulated import accumulated
from convc.schedule.blocks import split_blocks
from convc.schedule.choices import DEFAULT, Choice, Picker
from convc.schedule.dependence import goes_back
from convc.schedule.finishing import finish
from convc.schedule.folded import folded
from convc.schedule.lanes import vectorize_lanes
from convc.schedule.own_nests import schedule_own_nest
from convc.schedule.phases import split_phases
from convc.schedule.pointwise import pointwise, scalar, transposed
from convc.schedule.sequences import schedule_sequence
from convc.schedule.structure import analyse, loads_of, moves_with
from convc.schedule.tiled import is_computed, tiled
from convc.schedule.together import together
from convc.schedule.vector_loop import find_vector_loop
from convc.target import Target


def schedule_kernel(kernel: Kernel, target: Target, choice: Choice = DEFAULT) -> Kernel:
    """The kernel as the CPU generator takes it, with notes on what was chosen.

    A choice that the kernel can't have is as good as none.
    """
    return _scheduled(kernel, target, Picker(choice))


def alternatives(kernel: Kernel, target: Target) -> list[Choice]:
    """The choices that a kernel can have, those first that the estimate likes; the first is what it takes by itself."""
    picker = Picker()
    _scheduled(kernel, target, picker)
    return picker.alternatives()


def _scheduled(kernel: Kernel, target: Target, picker: Picker) -> Kernel:
    for buffer in kernel.params:
        if buffer.role is Role.in_ and any(b != (0, 0) for b in buffer.layout.border):
            kernel = use_border(kernel, buffer.name)
    kernel = simplify_kernel(kernel)
    structure = None if goes_back(kernel) else analyse(kernel)
    if structure is None:
        return _several(kernel, target, picker)
    structure, vector = find_vector_loop(split_blocks(split_phases(structure)))
    if vector is None:
        return (
            folded(structure, target) or transposed(structure, target) or scalar(structure, target)
        )
    if not structure.reductions:
        return pointwise(structure, vector, target)
    factors = structure.contraction()
    if factors is not None:
        for still, moving in (factors, factors[::-1]):
            if moves_with(still, vector.var) or not moves_with(moving, vector.var):
                continue
            loads = loads_of(moving)
            if len(loads) == 1 and not is_computed(moving):
                scheduled = accumulated(structure, vector, still, loads[0], target)
                if scheduled is not None:
                    return scheduled
                return tiled(structure, vector, still, loads[0], target, picker)
        for still, moving in (factors, factors[::-1]):
            if isinstance(moving, Load) and moves_with(still, vector.var):
                scheduled = accumulated(structure, vector, still, moving, target)
                if scheduled is not None:
                    return scheduled
    return together(structure, vector, target, picker)


def _several(kernel: Kernel, target: Target, picker: Picker) -> Kernel:
    """Nests one after the other, each scheduled alone, all in one task; or one of any form."""
    sequence = schedule_sequence(kernel, target)
    if sequence is not None:
        return sequence
    if len(kernel.body) == 1:
        return finish(schedule_own_nest(kernel), target, "serial", "")
    body: list[Stmt] = []
    for stmt in kernel.body:
        alone = replace(kernel, body=(stmt,))
        nest = _is_nest(stmt)
        done = (
            _scheduled(alone, target, picker)
            if nest
            else finish(vectorize_lanes(alone), target, "", "")
        )
        body.extend(_serial(done.body))
    return replace(finish(replace(kernel, body=()), target, "serial", ""), body=tuple(body))


def _is_nest(stmt: Stmt) -> bool:
    nest = Kernel("nest", (), (stmt,))
    return isinstance(stmt, For) and not goes_back(nest) and analyse(nest) is not None


def _serial(block: Block) -> Block:
    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.kind is LoopKind.parallel:
            return (replace(stmt, kind=LoopKind.serial),)
        return (stmt,)

    return map_block(block, on_stmt=on_stmt)
