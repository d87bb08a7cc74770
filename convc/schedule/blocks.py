"""Loops over the columns of a packed weight: blocks, and columns in a block, so that accesses are linear in both."""

from __future__ import annotations

from convc.loops.ir import Var
from convc.loops.rewrites import split
from convc.loops.simplify import simplify_kernel
from convc.schedule.structure import Structure, analysed


def split_blocks(structure: Structure) -> Structure:
    """Output loops over a dimension that some buffer has in blocks, as a loop over blocks and one inside a block.

    before: for o in 64 { for c in 3 { y[o] += x[c] * w[o, c] } }                   with w @(d0/32, d1, d0%32)
    after:  for o in 2 { for o_column in 32 { for c in 3 { y[o*32 + o_column] += x[c] * w[o*32 + o_column, c] } } }
    """
    layouts = (buffer.layout for buffer in structure.buffers.values())
    if all(axis.divide == 1 for layout in layouts for axis in layout.axes):
        return structure
    for loop in structure.outputs:
        block = _block(structure, loop.var)
        if block is None or loop.extent is None or loop.extent % block or loop.extent == block:
            continue
        kernel = split(structure.kernel, loop.var, block, loop.var, f"{loop.var}_column")
        structure = analysed(simplify_kernel(kernel))
    return structure


def _block(structure: Structure, var: str) -> int | None:
    """The block in which accesses at a loop's variable lie, if there is one."""
    found = {
        axis.divide
        for name, at in structure.accesses()
        for axis in structure.buffers[name].layout.axes
        if axis.divide > 1 and at[axis.dim] == Var(var)
    }
    return found.pop() if len(found) == 1 else None
