"""Sums of products of which only one factor moves with the vectors: register tiles of rows x vectors."""

from __future__ import annotations

from convc.loops.ir import Expr, For, Kernel, Layout, Load, Select, Space, Var
from convc.loops.rewrites import (
    parallelize,
    prefetch_results,
    relayout,
    reorder,
    sink,
    speculate,
    split,
    stage,
    unroll,
    unswitch,
    vectorize,
)
from convc.loops.simplify import linear, simplify_kernel
from convc.schedule.batched import BATCH, block_rows
from convc.schedule.choices import Picker
from convc.schedule.constants import pack_columns, pad_vectors
from convc.schedule.finishing import finish, has_loop, parallel_top
from convc.schedule.nesting import joined, move_innermost, ordered, runs_on
from convc.schedule.streams import ask_ahead, images_inside, is_streamed, places_inside
from convc.schedule.structure import (
    Loop,
    Structure,
    analysed,
    depends_on,
    loads_of,
    moves_with,
)
from convc.schedule.tiles import TileSpace
from convc.target import Target

# Bytes of a local buffer that holds a tile's input, at the most: part of the second-level cache, and of a stack.
_STAGED_BYTES = 64 << 10

# From so many accumulators on, in two vectors or more, a tile adds one term of its sum per turn: the loop costs nothing
# beside them (44 kernels of MobileNetV2's training and InceptionV3 take 0.58 to 1.05 of the time that four terms per
# turn take, the mean 0.97), in 40 % of the text. Tiles of 8x2 are up to 1.3 times slower so, those of 29x1 1.2 times.
_MANY_SUMS = 20


def tiled(
    structure: Structure, vector: Loop, still: Expr, moving: Load, target: Target, picker: Picker
) -> Kernel:
    """A register tile: rows that only `still` moves with, times vectors that only `moving` moves with.

    Where `still` is itself computed (a normalised and activated input), it is computed once per tile and kept.
    """
    dtype = structure.updates[0].value.dtype
    lanes = vector.lanes(target.lanes(dtype.itemsize))
    kernel, structure, row = _row_loop(structure, vector, still, moving)
    blocks = None if row is None else block_rows(structure, vector, still, moving, row)
    if blocks is not None:
        structure, row = blocks
        kernel = structure.kernel
    columns = vector.extent or 1
    rows = (row.extent or 8) if row is not None else 1
    (depth, *more) = (loop.extent for loop in structure.reductions)
    staged = row is not None and is_computed(still) and depth is not None and not more
    if staged and depth is not None:
        rows = max(1, min(rows, _STAGED_BYTES // (depth * dtype.itemsize)))
        kernel, structure = _staged(structure, vector)
    known = row is None or row.extent is not None
    turns = row is not None and known and not staged and not vector.grouped
    space = TileSpace(
        rows,
        -(-columns // lanes),
        target.vector_registers,
        grouped=vector.grouped,
        orders=("", "rows") if turns else ("",),
        known=known,
    )
    tile, order = picker.tile(space)
    width = tile.vectors * lanes
    weight = structure.buffers[moving.buffer]
    kernel = split(kernel, vector.var, width, "ob", "oi", "guard")
    kernel = split(kernel, "oi", lanes, "ov", "ol", "guard")
    if row is not None:
        tail = "overlap" if row.extent is not None and row.extent >= tile.rows else "peel"
        kernel = split(kernel, row.var, tile.rows, "jt", "jp", tail)
    asked = len(structure.reductions) == 1 and not order and is_streamed(weight, target)
    several = asked or tile.vectors < 2 or tile.rows * tile.vectors < _MANY_SUMS
    kernel, innermost = _inner_reduction(kernel, structure, still, several)
    if staged:
        kernel = split(kernel, "stage", lanes, "sb", "sl", "guard")
    kernel = simplify_kernel(kernel)
    for var in ("jp", "ov", "ol"):
        if var != "jp" or row is not None:
            kernel = sink(kernel, var)
    if order == "rows":
        kernel = _columns_inside(kernel)
    elif row is not None and not staged and weight.space is Space.constant:
        blocks_of_columns = -(-columns // width)
        kernel = images_inside(kernel, structure, still, moving, blocks_of_columns, target)
        kernel = places_inside(kernel, structure, still, moving, row, target)
    if staged:
        kernel = vectorize(sink(relayout(kernel, "staged", Layout.permuted((1, 0))), "sl"), "sl")
    if weight.space is Space.constant:
        kernel = pack_columns(kernel, structure, moving, vector, width)
    kernel = pad_vectors(kernel, structure, vector.var, width)
    kernel = unswitch(speculate(simplify_kernel(kernel)))
    kernel = prefetch_results(kernel, "ol")
    if asked:
        kernel = ask_ahead(kernel, structure, weight, innermost)
    unrolled = [v for v in ("jp", "ov", innermost) if v and has_loop(kernel, v)]
    for var in unrolled:
        kernel = unroll(kernel, var)
    kernel = vectorize(kernel, "ol")
    kernel = parallel_top(kernel) if blocks is None else parallelize(kernel, BATCH)
    return finish(kernel, target, "tiled", f"{tile.rows}x{tile.vectors}x{lanes}")


def _columns_inside(kernel: Kernel) -> Kernel:
    """The loop over blocks of columns innermost of the loops around a tile."""
    block, around = kernel.body, list[str]()
    while len(block) == 1 and isinstance(block[0], For):
        around.append(block[0].var)
        block = block[0].body
    for inner in around[around.index("ob") + 1 :] if "ob" in around else ():
        kernel = reorder(kernel, "ob", inner)
    return kernel


def is_computed(expr: Expr) -> bool:
    """True for more than a load behind its guard."""
    return not isinstance(expr, Load) and not (
        isinstance(expr, Select) and isinstance(expr.then, Load)
    )


def _staged(structure: Structure, vector: Loop) -> tuple[Kernel, Structure]:
    """The vector loop innermost of the output loops, and the still factor in a local buffer around it."""
    again = analysed(move_innermost(structure, vector.var))
    factors = again.contraction()
    assert factors is not None
    still = next(f for f in factors if not moves_with(f, vector.var))
    return stage(again.kernel, still, again.reductions[0].var, vector.var, "staged"), again


# A loop of so many rows fills a tile of every batch, as one of a symbolic extent may not.
_TILED_ROWS = 8


def _row_loop(
    structure: Structure, vector: Loop, still: Expr, moving: Expr
) -> tuple[Kernel, Structure, Loop | None]:
    """The output loop to tile beside the vectors: the innermost that only the still factor moves with.

    Two loops that run through memory as one become one first (the pixels of a 1x1 convolution).
    """
    rows = [
        x
        for x in structure.outputs
        if x.var != vector.var
        and x.extent != 1
        and _moves_evenly(structure, still, x.var)
        and not moves_with(moving, x.var)
    ]
    if not rows:
        return structure.kernel, structure, None
    long = [x for x in rows if x.extent is not None and x.extent >= _TILED_ROWS]
    row = min(rows, key=lambda x: structure.output_step(x.var) or 1 << 60)
    if row.extent is None and long:
        row = min(long, key=lambda x: structure.output_step(x.var) or 1 << 60)
    others = [x for x in rows if x is not row and x.extent is not None]
    outer = min(others, key=lambda x: structure.output_step(x.var) or 1 << 60, default=None)
    if outer is not None and row.extent is not None and runs_on(structure, outer, row):
        side_by_side = analysed(ordered(structure, [outer.var, row.var]))
        fused = f"{outer.var}_{row.var}"  # a name that no formula gives a loop
        again = joined(side_by_side, outer, row, fused)
        if again is not None:
            assert outer.extent is not None
            return again.kernel, again, Loop(fused, outer.extent * row.extent)
    kernel = move_innermost(structure, row.var)
    return kernel, analysed(kernel), row


def _moves_evenly(structure: Structure, expr: Expr, var: str) -> bool:
    """True if every load moves with the loop, or stays, by one distance per step (in phases it may not).

    The distance may be a multiple of a symbol: rows that have a batch between them.
    """
    even = all(
        structure.step(x.buffer, x.index, var) is not None or _is_even(structure, x, var)
        for x in loads_of(expr)
    )
    return even and moves_with(expr, var)


def _is_even(structure: Structure, load: Load, var: str) -> bool:
    """Whether an index is linear in a variable, in dimensions that no layout cuts up."""
    layout = structure.buffers[load.buffer].layout
    cut = {a.dim for a in layout.axes if a.divide != 1 or a.modulus is not None}
    for dim, at in enumerate(load.index):
        if not depends_on(at, var):
            continue
        atoms = [atom for atom in linear(at)[0] if depends_on(atom, var)]
        if dim in cut or atoms != [Var(var)]:
            return False
    return True


def _inner_reduction(
    kernel: Kernel, structure: Structure, still: Expr, several: bool
) -> tuple[Kernel, str]:
    """The reduction loop along which the still factor is contiguous goes inside, and the loop in it to unroll, if any.

    With `several`, some terms of a long one are added per turn.
    """
    names = [x.var for x in structure.reductions]
    read = loads_of(still)[0]
    along = [x for x in names if structure.step(read.buffer, read.index, x) == 1]
    inner = along[0] if along else names[-1]
    for other in names[names.index(inner) + 1 :]:
        kernel = reorder(kernel, inner, other)
    extent = structure.extent(inner)
    if extent is not None and extent <= 4:
        return kernel, inner
    if not several:
        return kernel, ""
    factor = next(f for f in (4, 3, 5, 2, 1) if f == 1 or extent and extent % f == 0)
    if factor == 1:
        return split(kernel, inner, 4, f"{inner}o", f"{inner}i", "peel"), f"{inner}i"
    return split(kernel, inner, factor, f"{inner}o", f"{inner}i"), f"{inner}i"
