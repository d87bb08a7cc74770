"""Products of many pairs of matrices that share their rows' memory.

A row holds all pairs, so what one pair reads of it lies far from what it reads of the next row. A task therefore takes
some pairs that lie side by side, and goes through the rows in blocks that stay in a cache.
"""

from __future__ import annotations

from convc.loops.ir import Expr, Load
from convc.loops.rewrites import reorder, split
from convc.loops.simplify import simplify_kernel
from convc.schedule.structure import Loop, Structure, analysed, loads_of, moves_with

# Bytes of a row that a task reads side by side at the least: a few cache lines, for which memory pays.
_SIDE_BY_SIDE = 1 << 10

# Rows of a block: what a first-level cache holds of them, and a multiple of every register tile's likely rows.
_ROWS = 96


BATCH = "tb"
"""The outermost loop of such a product: its tasks."""


def batch_loop(structure: Structure, vector: Loop, still: Expr, moving: Load) -> Loop | None:
    """The output loop that both factors move with: over the pairs of matrices."""
    found = [
        x
        for x in structure.outputs
        if x.var != vector.var
        and x.extent not in (None, 1)
        and moves_with(still, x.var)
        and moves_with(moving, x.var)
    ]
    return found[0] if len(found) == 1 else None


def block_rows(
    structure: Structure, vector: Loop, still: Expr, moving: Load, row: Loop
) -> tuple[Structure, Loop] | None:
    """The product with blocks of rows around the pairs, and the loop over a block's rows; None if it has no such rows.

    `row` is a loop of unknown extent, the innermost of the output loops.
    """
    batch = batch_loop(structure, vector, still, moving)
    (load, *more) = loads_of(still)
    pitch = structure.step(load.buffer, load.index, row.var)
    if batch is None or more or row.extent is not None or not pitch:
        return None
    inside = structure.step(load.buffer, load.index, batch.var)
    if not inside or pitch < inside * (batch.extent or 1):
        return None  # the matrices lie apart
    chunk = pairs_together(batch, inside * load.dtype.itemsize)
    kernel = split(structure.kernel, batch.var, chunk, BATCH, "ti")
    kernel = split(kernel, row.var, _ROWS, "pb", "pi", "clip")
    others = [x.var for x in structure.outputs if x.var not in (row.var, batch.var)]
    for outer in [*reversed(others), "ti"]:
        kernel = reorder(kernel, outer, "pb")
    return analysed(simplify_kernel(kernel)), Loop("pi", None)


def pairs_together(batch: Loop, size: int) -> int:
    """The pairs of a task, each of so many bytes: as many as lie side by side for long enough, evenly."""
    pairs = batch.extent or 1
    return next(
        n for n in range(1, pairs + 1) if pairs % n == 0 and n * size >= _SIDE_BY_SIDE or n == pairs
    )
