"""Schedules of loops over steps that depend on one another.

Such a kernel is a loop over rows that know nothing of each other, in it a loop over steps, in that nests over columns.
Rows become tasks, in blocks whose accumulators fill the registers, so that each element of a matrix that is read in all
steps serves many rows; the columns become lanes.
"""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import (
    Alloc,
    Block,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Stmt,
    Store,
    Var,
    index,
    walk,
)
from convc.loops.rewrites import sink, split, unroll, vectorize
from convc.loops.walking import expressions, map_block, map_expr, subexpressions, substitute_block
from convc.schedule.dependence import are_slices
from convc.schedule.finishing import finish, has_loop
from convc.schedule.lanes import is_straight, may_be_lanes
from convc.schedule.structure import places_of
from convc.target import Target

_ROW = "row"
"""The loop over the rows of a block."""

_REDUCTION = 4
"""Iterations of a reduction that the generator walks."""


def schedule_sequence(kernel: Kernel, target: Target) -> Kernel | None:
    """The kernel, or None for one that isn't of rows, steps and columns."""
    if len(kernel.body) != 1 or not isinstance(kernel.body[0], For):
        return None
    rows = kernel.body[0]
    columns = _columns(kernel)
    if not columns or not are_slices(kernel, rows.var):
        return None
    sums = [loop for loop in columns if _reduction(loop)]
    if not sums:
        return None
    itemsize = kernel.params[-1].dtype.itemsize
    lanes = target.lanes(itemsize)
    height, vectors = (8, 2) if target.vector_registers >= 32 else (4, 2)
    block = _variant(kernel, rows, columns, height, (vectors, lanes))
    single = _variant(kernel, rows, columns, 1, (height * vectors // 2, lanes))
    body = _blocks_of_rows(rows, block, single, height)
    return finish(replace(kernel, body=body), target, "sequence", f"{height}x{vectors}x{lanes}")


def _blocks_of_rows(rows: For, block: Block, single: Block, height: int) -> Block:
    """Tasks of `height` rows each, the rest row by row. Symbolic extents: the task of the first row does a block."""
    extent, n = rows.extent, Var(rows.var)
    if isinstance(extent, Const) and int(extent.value) % height == 0:
        whole = substitute_block(block, {rows.var: n * height})
        return (For(rows.var, extent // height, whole, LoopKind.parallel),)
    if isinstance(extent, Const) and int(extent.value) < height:
        return (For(rows.var, extent, single, LoopKind.parallel),)
    rest = For(
        f"{rows.var}_rest",
        extent - n,
        substitute_block(single, {rows.var: n + Var(f"{rows.var}_rest")}),
    )
    either = If(n + height <= extent, block, (rest,))
    return (For(rows.var, extent, (If((n % height).eq(0), (either,)),), LoopKind.parallel),)


# ---------------------------------------------------------------- columns


def _columns(kernel: Kernel) -> list[For]:
    """The innermost loops but reductions, if all of them may be lanes; none otherwise."""
    if not all(isinstance(s, (For, Alloc, Let, Store)) for s in walk(kernel.body)):
        return []
    loops = [s for s in walk(kernel.body) if isinstance(s, For)]
    found = [x for x in loops if is_straight(x) and any(_in_memory(s) for s in x.body)]
    inside = [s for loop in found for s in walk(loop.body)]
    outside = [s for s in walk(kernel.body) if not any(s is i for i in inside)]
    names = [loop.var for loop in found]
    if any(not isinstance(s, For) for s in outside) or len(set(names)) < len(names):
        return []
    places = places_of(kernel)
    return found if all(may_be_lanes(loop, places) for loop in found) else []


def _in_memory(stmt: Stmt) -> bool:
    """True for a store to more than a register."""
    return isinstance(stmt, Store) and stmt.index != ()


def _reduction(loop: For) -> For | None:
    return next((s for s in loop.body if isinstance(s, For)), None)


# ---------------------------------------------------------------- tiles


def _variant(
    kernel: Kernel, rows: For, columns: list[For], height: int, tile: tuple[int, int]
) -> Block:
    """A block of rows with the columns in register tiles of so many vectors x lanes."""
    body = rows.body
    if height > 1:
        body = substitute_block(body, {rows.var: Var(rows.var) + Var(_ROW)})
    pieces: list[str] = []
    names = {loop.var for loop in columns}

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.var in names:
            made = _in_tiles(stmt, tile, "b" if height > 1 else "s")
            pieces.extend(loop.var for loop in made)
            return made
        return (stmt,)

    body = map_block(body, on_stmt=on_stmt)
    if height > 1:
        body = (For(_ROW, index(height), body),)
    alone = replace(kernel, body=body)
    if height > 1:
        alone = sink(alone, _ROW)
    for piece in pieces:
        alone = vectorize(sink(sink(alone, f"{piece}v"), f"{piece}l"), f"{piece}l")
        alone = unroll(alone, f"{piece}v")
    for loop in columns:
        reduction = _reduction(loop)
        if reduction is not None:
            k = reduction.var
            alone = unroll(split(alone, k, _REDUCTION, f"{k}o", f"{k}i"), f"{k}i")
    return _walk_rows(alone.body) if has_loop(alone, _ROW) else alone.body


def _in_tiles(loop: For, tile: tuple[int, int], tag: str) -> tuple[For, ...]:
    """A loop over columns as loops over tiles: whole ones, one of whole vectors, and powers of two."""
    vectors, lanes = tile if _reduction(loop) else (1, tile[1])
    assert isinstance(loop.extent, Const)
    extent, start = int(loop.extent.value), 0
    made: list[For] = []
    for width, count in _cut(extent, vectors * lanes):
        most = min(lanes, width)
        name = f"{loop.var}{len(made)}"
        column = Var(name) * width + Var(f"{name}v") * most + Var(f"{name}l") + start
        inner = For(
            f"{name}l",
            index(most),
            _renamed(substitute_block(loop.body, {loop.var: column}), f"{len(made)}{tag}"),
        )
        made.append(For(name, index(count), (For(f"{name}v", index(width // most), (inner,)),)))
        start += width * count
    return tuple(made)


def _cut(extent: int, most: int) -> list[tuple[int, int]]:
    """(width, count) of tiles, widest first, each a power of two or `most`."""
    found = [(most, extent // most)] if extent >= most else []
    rest = extent % most
    power = 1 << max(0, most.bit_length() - 1)
    while rest:
        if power <= rest:
            found.append((power, 1))
            rest -= power
        power >>= 1
    return found


def _renamed(block: Block, tag: str) -> Block:
    """The block with names of its own for its registers."""
    own = {s.buffer.name for s in block if isinstance(s, Alloc)}
    if not own:
        return block

    def on_expr(expr: Expr) -> Expr:
        def visit(e: Expr) -> Expr:
            if isinstance(e, Load) and e.buffer in own:
                return replace(e, buffer=f"{e.buffer}{tag}")
            return e

        return map_expr(visit, expr)

    def on_stmt(stmt: Stmt) -> Block:
        match stmt:
            case Alloc() if stmt.buffer.name in own:
                return (Alloc(replace(stmt.buffer, name=f"{stmt.buffer.name}{tag}")),)
            case Store() if stmt.buffer in own:
                return (replace(stmt, buffer=f"{stmt.buffer}{tag}"),)
        return (stmt,)

    return map_block(block, on_expr, on_stmt)


def _walk_rows(block: Block) -> Block:
    """The generator walks the rows of what registers hold; functions are computed row by row."""

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.var == _ROW and not _computes(stmt.body):
            return (replace(stmt, kind=LoopKind.unrolled),)
        return (stmt,)

    return map_block(block, on_stmt=on_stmt)


def _computes(block: Block) -> bool:
    return any(
        isinstance(stmt, Let) or isinstance(e, Call) and e.function != "fma"
        for stmt in walk(block)
        for expr in expressions(stmt)
        for e in subexpressions(expr)
    )
