"""Weights as a schedule wants to read them: in the order of its loops, padded to whole vectors."""

from __future__ import annotations

from convc.loops.ir import Axis, Expr, Kernel, Layout, Load, Space, Var
from convc.loops.rewrites import pad_extent, relayout
from convc.loops.simplify import linear
from convc.schedule.finishing import loop_order
from convc.schedule.structure import Loop, Structure, depends_on


def is_constant(structure: Structure, load: Load) -> bool:
    """True for a load of a weight that is packed at compile time."""
    return structure.buffers[load.buffer].space is Space.constant


def pack_columns(
    kernel: Kernel, structure: Structure, moving: Load, vector: Loop, width: int
) -> Kernel:
    """The moving factor in the order in which the kernel reads it: blocks of `width` columns, reductions inside."""
    buffer = structure.buffers[moving.buffer]
    column = dim_of(moving, vector.var)
    if column is None or not _in_step(moving.index[column], vector.var, width):
        return kernel
    order = [x.var for x in structure.reductions]
    along = [d for d in range(len(buffer.shape)) if d != column]
    still_first = [d for d in along if not _dim_in(moving, d, order)]
    reduced = [d for d in along if _dim_in(moving, d, order)]
    reduced.sort(key=lambda d: _reduction_rank(kernel, moving, d, order))
    axes = (
        *(Axis(d) for d in still_first),
        Axis(column, width),
        *(Axis(d) for d in reduced),
        Axis(column, 1, width),
    )
    return relayout(kernel, moving.buffer, Layout(axes, ((0, 0),) * len(buffer.shape)))


def lanes_innermost(kernel: Kernel, structure: Structure, vector: Loop) -> Kernel:
    """Weights with their vector dimension innermost."""
    for load in structure.loads():
        buffer = structure.buffers[load.buffer]
        dim = dim_of(load, vector.var)
        if buffer.space is Space.constant and dim is not None:
            order = [d for d in range(len(buffer.shape)) if d != dim]
            kernel = relayout(kernel, load.buffer, Layout.permuted((*order, dim)))
    return kernel


def pad_vectors(kernel: Kernel, structure: Structure, var: str, multiple: int) -> Kernel:
    """Rounds weights up along the vector loop, so that only the final store needs a mask."""
    for load in structure.loads():
        buffer = structure.buffers[load.buffer]
        if buffer.space is not Space.constant:
            continue
        dim = dim_of(load, var)
        if dim is not None and isinstance(buffer.shape[dim], int) and buffer.shape[dim] > 1:  # type: ignore[operator]
            kernel = pad_extent(kernel, load.buffer, dim, multiple)
    return kernel


def _in_step(expr: Expr, var: str, width: int) -> bool:
    """True if an index runs with a loop, and begins at multiples of `width` wherever the loop does."""
    terms, constant = linear(expr)
    rest = [c for atom, c in terms.items() if atom != Var(var)]
    return terms.get(Var(var)) == 1 and all(c % width == 0 for c in (*rest, constant))


def dim_of(load: Load, var: str) -> int | None:
    """The one dimension whose index depends on a variable."""
    dims = [d for d, i in enumerate(load.index) if depends_on(i, var)]
    return dims[0] if len(dims) == 1 else None


def _dim_in(load: Load, dim: int, names: list[str]) -> bool:
    return any(depends_on(load.index[dim], v) for v in names)


def _reduction_rank(kernel: Kernel, load: Load, dim: int, names: list[str]) -> int:
    """Outer reduction loops first: the one that was moved inside is the last."""
    order = loop_order(kernel)
    ranks = [
        order.index(v) if v in order else len(order)
        for v in names
        if depends_on(load.index[dim], v)
    ]
    return max(ranks, default=0)
