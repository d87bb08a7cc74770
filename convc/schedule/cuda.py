"""Plain schedules for GPUs, picked by the structure of a kernel's loops: correct and wide first, fast later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from convc.errors import IRError
from convc.loops.ir import (
    Block,
    Const,
    Expr,
    For,
    Kernel,
    Load,
    LoopKind,
    Role,
    Select,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.math import expand_math
from convc.loops.rewrites.grid import (
    Tile,
    fresh,
    launch,
    product_operands,
    reduction_parts,
    tile_reduction,
)
from convc.loops.rewrites.nest import bind, fuse, reorder
from convc.loops.simplify import linear, simplify_kernel
from convc.loops.walking import children, expressions, subexpressions
from convc.schedule.dependence import goes_back

THREADS = 256
TILED = "tiled product"
# A block computes at most 1024 outputs, so that small layers still fill a GPU.
TILE = Tile(rows=32, columns=32, depth=16, patch=(4, 4))
# Below these a tile would idle: one thread per output does better.
MIN_ROWS, MIN_COLUMNS, MIN_TERMS = 8, 8, 4


def schedule_kernel(kernel: Kernel) -> Kernel:
    """A plain kernel spread over blocks and threads, its mathematics expanded: ready for the CUDA generator.

    Nests at the top that read nothing that the kernel writes run side by side. Each becomes a tiled product through
    shared memory if it is one, else a thread per output. What has no independent loops stays on one thread.
    """
    nests = kernel.body
    if not nests or len(nests) > 1 and not _side_by_side(kernel):
        return _finish(kernel, kernel.body, ["one thread"])
    scheduled = [schedule_nest(replace(kernel, body=(nest,), notes=())) for nest in nests]
    body = tuple(stmt for nest in scheduled for stmt in nest.body)
    return _finish(kernel, body, [dict(nest.notes)["strategy"] for nest in scheduled])


def _finish(kernel: Kernel, body: Block, strategies: Sequence[str]) -> Kernel:
    """The kernel over its scheduled body, with a note of what was done."""
    note = ("strategy", ", ".join(dict.fromkeys(strategies)))
    kernel = replace(kernel, body=body, notes=(*kernel.notes, note))
    if note[1] == TILED:
        kernel = _noted(kernel, "tile", f"{TILE.rows}x{TILE.columns}x{TILE.depth}")
    return expand_math(simplify_kernel(kernel))


def _noted(kernel: Kernel, key: str, value: str) -> Kernel:
    return replace(kernel, notes=(*kernel.notes, (key, value)))


def _side_by_side(kernel: Kernel) -> bool:
    """Whether the statements at the top are loops that read nothing that the kernel writes, where no data say."""
    written = {b.name for b in kernel.params if b.role is not Role.in_}
    reads = {e.buffer for s in walk(kernel.body) for x in expressions(s) for e in _loads(x)}
    steered = goes_back(kernel)  # a nest may store where another one did
    return all(isinstance(s, For) for s in kernel.body) and not written & reads and not steered


def schedule_nest(kernel: Kernel) -> Kernel:
    """The schedule of a kernel that is one statement."""
    loops = independent_loops(kernel)
    if not loops:
        return _noted(kernel, "strategy", "one thread")
    tiled = tile_product(kernel, loops)
    if tiled is not None:
        return _noted(tiled, "strategy", TILED)
    return _noted(thread_per_output(kernel, loops), "strategy", "thread per output")


def thread_per_output(kernel: Kernel, loops: Sequence[For]) -> Kernel:
    """Fuses the independent loops and runs them as blocks of 256 threads."""
    kernel, names = fuse_all(kernel, loops, "f")
    kernel = launch(kernel, names[-1], THREADS)
    return _bind_rest(kernel, names[:-1], (LoopKind.block_y, LoopKind.block_z))


def tile_product(kernel: Kernel, loops: Sequence[For]) -> Kernel | None:
    """Matrix products and convolutions (as implicit products): tiles through shared memory. None for other kernels."""
    terms = _term_loops(loops[-1].body)
    if not terms or not all(isinstance(t.extent, Const) for t in terms[1:]):
        return None
    groups = _groups(loops, terms[-1].body)
    if groups is None:
        return None
    batch, rows, columns = groups
    if _fewer(rows, MIN_ROWS) or _fewer(columns, MIN_COLUMNS) or _fewer(terms, MIN_TERMS):
        return None
    kernel = _in_order(kernel, loops, [*batch, *rows, *columns])
    kernel, term = fuse_all(kernel, terms, "k")
    kernel, row = fuse_all(kernel, rows, "row")
    kernel, column = fuse_all(kernel, columns, "column")
    if len(term) + len(row) + len(column) != 3 or not _tileable(kernel, row[0], column[0]):
        return None
    kernel = tile_reduction(kernel, row[0], column[0], term[0], TILE)
    if not batch:
        return kernel
    kernel, outer = fuse_all(kernel, batch, "batch")
    return _bind_rest(kernel, outer, (LoopKind.block_z,))


# ---------------------------------------------------------------- loops


def independent_loops(kernel: Kernel) -> list[For]:
    """The loops of the outer perfect nest whose iterations write different elements and read none that they write.

    A loop counts if each store to a parameter has an index that varies with it alone.
    """
    written = {b.name for b in kernel.params if b.role is not Role.in_}
    stores = [s for s in walk(kernel.body) if isinstance(s, Store) and s.buffer in written]
    if any(
        e.buffer in written for s in walk(kernel.body) for x in expressions(s) for e in _loads(x)
    ):
        return []
    loops: list[For] = []
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For):
        loop = block[0]
        if loop.kind not in (LoopKind.serial, LoopKind.parallel) or not all(
            _selects(kernel, s, loop.var) for s in stores
        ):
            break
        if any(Var(outer.var) in subexpressions(loop.extent) for outer in loops):
            break
        loops.append(loop)
        block = loop.body
    return loops


def _selects(kernel: Kernel, store: Store, var: str) -> bool:
    """Whether different values of the variable write different elements, whatever the other loops do."""
    symbols = {Var(s) for s in kernel.symbols}
    forms = (linear(i)[0] for i in store.index)
    return any(terms.get(Var(var)) and terms.keys() - symbols == {Var(var)} for terms in forms)


def fuse_all(kernel: Kernel, loops: Sequence[For], wish: str) -> tuple[Kernel, list[str]]:
    """Fuses adjacent independent loops, those of symbolic extent first; the names of what is left, outermost first.

    More than one loop is left only where several extents are symbolic.
    """
    ordered = sorted(loops, key=lambda loop: isinstance(loop.extent, Const))
    kernel = _in_order(kernel, loops, ordered)
    names = [loop.var for loop in ordered]
    symbolic = sum(not isinstance(loop.extent, Const) for loop in ordered)
    while len(names) > max(symbolic, 1):
        last = len(names) - 1 == max(symbolic, 1)
        fused = fresh(kernel, wish if last else f"{wish}_part")
        kernel = fuse(kernel, names[-2], names[-1], fused)
        names[-2:] = [fused]
    return kernel, names


def _in_order(kernel: Kernel, present: Sequence[For], wanted: Sequence[For]) -> Kernel:
    """Reorders nested independent loops."""
    names = [loop.var for loop in present]
    for place, loop in enumerate(wanted):
        for at in range(names.index(loop.var), place, -1):
            kernel = reorder(kernel, names[at - 1], names[at])
            names[at - 1], names[at] = names[at], names[at - 1]
    return kernel


def _bind_rest(kernel: Kernel, names: Sequence[str], kinds: Sequence[LoopKind]) -> Kernel:
    if len(names) > len(kinds):
        raise IRError(f"kernel {kernel.name}: more symbolic dimensions than a grid can have")
    for name, kind in zip(names, kinds, strict=False):
        kernel = bind(kernel, name, kind)
    return kernel


# ---------------------------------------------------------------- products


def _term_loops(block: Block) -> list[For]:
    """The perfect nest of a block's one reduction, outermost first; empty if the block is no plain reduction."""
    if len(block) < 3 or any(isinstance(s, For) for s in block[3:]):
        return []
    loops: list[For] = []
    stmt: Stmt = block[2]
    while isinstance(stmt, For):
        loops.append(stmt)
        if len(stmt.body) != 1:
            return []
        stmt = stmt.body[0]
    return loops


def _groups(loops: Sequence[For], body: Block) -> tuple[list[For], list[For], list[For]] | None:
    """The output loops as (batch, rows, columns): rows index one operand, columns the other, batch both.

    None if the operands don't part so. Rows are what has the symbolic extent, else the longer side.
    """
    store = body[0]
    if not isinstance(store, Store):
        return None
    operands = _operands(store.value, store.buffer)
    inside = [set(subexpressions(o)) for o in operands]
    sides: dict[frozenset[int], list[For]] = {}
    for loop in loops:
        use = frozenset(i for i, parts in enumerate(inside) if Var(loop.var) in parts)
        sides.setdefault(use, []).append(loop)
    every = frozenset[int]().union(*sides)
    batch, unused = sides.pop(every, []), sides.pop(frozenset(), [])
    if len(sides) != 2 or frozenset.intersection(*sides) or _weight(unused) != 1:
        return None
    a, b = sides.values()
    rows, columns = (a, b) if _weight(a) >= _weight(b) else (b, a)
    return batch, [*rows, *unused], columns


def _operands(expr: Expr, accumulator: str) -> list[Expr]:
    """The loads of a reduction's step, each with the selection that guards it."""
    if isinstance(expr, (Load, Select)):
        return [] if isinstance(expr, Load) and expr.buffer == accumulator else [expr]
    return [o for e in children(expr) for o in _operands(e, accumulator)]


def _weight(loops: Sequence[For]) -> float:
    extents = [loop.extent.value if isinstance(loop.extent, Const) else math.inf for loop in loops]
    return math.prod(extents)


def _fewer(loops: Sequence[For], least: int) -> bool:
    return _weight(loops) < least


def _tileable(kernel: Kernel, row: str, column: str) -> bool:
    inner = next(s for s in walk(kernel.body) if isinstance(s, For) and s.var == column)
    parts = reduction_parts(inner.body)
    return parts is not None and product_operands(parts, row, column, kernel.buffers()) is not None


def _loads(expr: Expr) -> list[Load]:
    return [e for e in subexpressions(expr) if isinstance(e, Load)]
