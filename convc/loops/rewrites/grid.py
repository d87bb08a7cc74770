"""Rewrites that spread a kernel over a GPU's blocks and threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Axis,
    Barrier,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    binary,
    const,
    minimum,
    select,
    walk,
)
from convc.loops.rewrites.nest import at_loops
from convc.loops.walking import children, map_block, map_expr, rebuild, subexpressions


def fresh(kernel: Kernel, wish: str) -> str:
    """A name that the kernel doesn't use: the wish, or the wish with a number."""
    taken = {*kernel.symbols, *kernel.buffers()}
    for stmt in walk(kernel.body):
        taken |= {getattr(stmt, "var", ""), getattr(stmt, "name", "")}
    return next(
        n for n in (wish, *(f"{wish}{i}" for i in range(1, len(taken) + 2))) if n not in taken
    )


def launch(kernel: Kernel, var: str, threads: int) -> Kernel:
    """Runs a loop of independent iterations as blocks of that many threads, guarded where they are too many.

    Before: kernel k(in x: float32[N], out y: float32[N]) { for i in N { y[i] = x[i] } }
    After:  kernel k(in x: float32[N], out y: float32[N]) {
              for block in (N + 3) // 4 block_x { for thread in 4 thread_x {
                let i: int64 = block * 4 + thread
                if i < N { y[i] = x[i] } } } }
    """
    block, thread = fresh(kernel, "block"), fresh(kernel, "thread")

    def change(loop: For) -> Block:
        position = Let(loop.var, Var(block) * threads + Var(thread))
        body: Block = (position, If(Var(loop.var) < loop.extent, loop.body))
        inner = For(thread, Const(threads, INDEX), body, LoopKind.thread_x)
        return (For(block, _ceil(loop.extent, threads), (inner,), LoopKind.block_x),)

    return at_loops(kernel, var, change)


@dataclass(frozen=True)
class Tile:
    """What one block computes: rows × columns of the output, `depth` terms at a time, a patch of it per thread."""

    rows: int = 32
    columns: int = 32
    depth: int = 16
    patch: tuple[int, int] = (4, 4)

    @property
    def threads(self) -> int:
        return self.rows // self.patch[0] * (self.columns // self.patch[1])


def tile_reduction(kernel: Kernel, row: str, column: str, term: str, tile: Tile) -> Kernel:
    """Stages the operands of a reduction through shared memory: an output tile per block, a patch per thread.

    The loops over rows and columns stand directly inside one another; inside is a register, its first value, the loop
    over the terms with the one store that adds a term, and what is done with the sum. Operands are the largest parts
    of the term that depend on the row or on the column, not on both. The terms are added in the same order.

    Before: kernel k(in a: float32[5, 3], in b: float32[3, 6], out c: float32[5, 6]) {
              for i in 5 { for j in 6 {
                alloc s: float32[] register  s[] = 0.0
                for k in 3 { s[] = fma(a[i, k], b[k, j], s[]) }
                c[i, j] = s[] } } }
    After:  kernel k(in a: float32[5, 3], in b: float32[3, 6], out c: float32[5, 6]) {
              for block_row in 2 block_x { for block_column in 2 block_y {
                alloc tile0: float32[2, 4] @(d0, d1:8) shared
                alloc tile1: float32[2, 4] @(d0, d1:8) shared
                for thread in 4 thread_x {
                  alloc s: float32[2, 2] register
                  for u in 2 unrolled { for v in 2 unrolled { s[u, v] = 0.0 } }
                  for step in 2 {
                    for e in 2 unrolled {
                      let i: int64 = block_row * 4 + e * 2 + thread // 2
                      let k: int64 = step * 2 + thread % 2
                      tile0[thread % 2, e * 2 + thread // 2] = select((i < 5) & (k < 3), a[i, k], 0.0)
                    }
                    for e in 2 unrolled {
                      let j: int64 = block_column * 4 + thread
                      let k: int64 = step * 2 + e
                      tile1[e, thread] = select((j < 6) & (k < 3), b[k, j], 0.0)
                    }
                    barrier
                    for k in min(2, 3 - step * 2) {
                      for u in 2 unrolled { for v in 2 unrolled {
                        s[u, v] = fma(tile0[k, thread // 2 * 2 + u], tile1[k, thread % 2 * 2 + v], s[u, v])
                      } } }
                    barrier }
                  for u in 2 unrolled { for v in 2 unrolled {
                    let i: int64 = block_row * 4 + thread // 2 * 2 + u
                    let j: int64 = block_column * 4 + thread % 2 * 2 + v
                    if (i < 5) & (j < 6) { c[i, j] = s[u, v] } } }
                } } } }
    """
    return at_loops(kernel, row, lambda loop: _Tiling(kernel, loop, column, term, tile).block())


class _Tiling:
    """The parts of one `tile_reduction`."""

    def __init__(self, kernel: Kernel, loop: For, column: str, term: str, tile: Tile) -> None:
        self.kernel, self.tile = kernel, tile
        within = loop.body[0] if len(loop.body) == 1 else None
        if not isinstance(within, For) or within.var != column:
            raise IRError(f"kernel {kernel.name}: {column} is not directly inside {loop.var}")
        self.row, self.column = loop, within
        parts = reduction_parts(within.body)
        if parts is None or parts.loop.var != term:
            raise IRError(f"kernel {kernel.name}: {column} does not hold one reduction over {term}")
        self.parts = parts
        operands = product_operands(parts, loop.var, column, kernel.buffers())
        if operands is None:
            raise IRError(
                f"kernel {kernel.name}: the terms don't split into what {loop.var} and {column} need"
            )
        self.operands = operands
        names = "block_row block_column thread step u v e"
        self.names = {n: fresh(kernel, n) for n in names.split()}
        self.staged = [fresh(kernel, f"tile{i}") for i in range(len(operands))]

    def var(self, name: str) -> Var:
        return Var(self.names[name])

    def block(self) -> Block:
        tile, names = self.tile, self.names
        body: Block = (*self.start(), self.steps(), self.finish())
        threads = For(names["thread"], Const(tile.threads, INDEX), body, LoopKind.thread_x)
        inner: Block = (*(Alloc(b) for b in self.shared()), threads)
        columns = _ceil(self.column.extent, tile.columns)
        rows = _ceil(self.row.extent, tile.rows)
        grid = For(names["block_column"], columns, inner, LoopKind.block_y)
        return (For(names["block_row"], rows, (grid,), LoopKind.block_x),)

    def shared(self) -> list[Buffer]:
        """The staged operands, [depth, rows or columns], pitched so that their rows start in different banks."""
        found = []
        for name, operand in zip(self.staged, self.operands, strict=True):
            width = self.width(operand)
            layout = Layout((Axis(0), Axis(1, extent=width + 4)), ((0, 0), (0, 0)))
            shape = (self.tile.depth, width)
            found.append(Buffer(name, operand.expr.dtype, shape, layout, Space.shared))
        return found

    def width(self, operand: Operand) -> int:
        return self.tile.rows if operand.of_row else self.tile.columns

    def patch(self, body: Block) -> Stmt:
        """The statements for each element of the thread's patch."""
        height, width = self.tile.patch
        inner = For(self.names["v"], Const(width, INDEX), body, LoopKind.unrolled)
        return For(self.names["u"], Const(height, INDEX), (inner,), LoopKind.unrolled)

    def start(self) -> Block:
        alloc = self.parts.accumulator
        grown = replace(alloc, shape=self.tile.patch, layout=Layout.dense(2))
        return Alloc(grown), self.patch((self.accumulate(self.parts.first),))

    def accumulate(self, value: Expr) -> Store:
        return Store(
            self.parts.accumulator.name, (self.var("u"), self.var("v")), self.with_patch(value)
        )

    def with_patch(self, expr: Expr) -> Expr:
        """The accumulator becomes the patch's element."""
        name = self.parts.accumulator.name

        def visit(e: Expr) -> Expr:
            if isinstance(e, Load) and e.buffer == name:
                return Load(name, (self.var("u"), self.var("v")), e.dtype)
            return e

        return map_expr(visit, expr)

    def steps(self) -> For:
        """Loads the operands' tiles together, then adds their terms, `depth` at a time."""
        tile, loop = self.tile, self.parts.loop
        loads = tuple(
            self.load(name, o) for name, o in zip(self.staged, self.operands, strict=True)
        )
        left = binary("-", loop.extent, self.var("step") * tile.depth)
        whole = isinstance(loop.extent, Const) and int(loop.extent.value) % tile.depth == 0
        terms = Const(tile.depth, INDEX) if whole else minimum(Const(tile.depth, INDEX), left)
        add = self.patch((self.accumulate(self.staged_term()),))
        adding = For(loop.var, terms, (add,))
        body: Block = (*loads, Barrier(), adding, Barrier())
        return For(self.names["step"], _ceil(loop.extent, tile.depth), body)

    def load(self, name: str, operand: Operand) -> For:
        """Each thread loads some elements of a tile, neighbours in memory by neighbouring threads."""
        tile, width = self.tile, self.width(operand)
        each = _ceil_number(tile.depth * width, tile.threads)
        element = self.var("e") * tile.threads + self.var("thread")
        if operand.term_fastest:
            deep, wide = element % tile.depth, element // tile.depth
        else:
            deep, wide = element // width, element % width
        loop, block = (self.row, "block_row") if operand.of_row else (self.column, "block_column")
        place, term = Var(loop.var), Var(self.parts.loop.var)
        inside = (place < loop.extent) & (term < self.parts.loop.extent)
        zero = const(0, operand.expr.dtype)
        body: Block = (
            Let(loop.var, self.var(block) * width + wide),
            Let(term.name, self.var("step") * tile.depth + deep),
            Store(name, (deep, wide), select(inside, operand.expr, zero)),
        )
        if each * tile.threads != tile.depth * width:
            body = (If(element < tile.depth * width, body),)
        return For(self.names["e"], Const(each, INDEX), body, LoopKind.unrolled)

    def staged_term(self) -> Expr:
        """The next value of the accumulator, its operands read from shared memory."""
        height, width = self.tile.patch
        across = self.tile.columns // width
        row = self.var("thread") // across * height + self.var("u")
        column = self.var("thread") % across * width + self.var("v")
        term = Var(self.parts.loop.var)
        loads: dict[Expr, Expr] = {
            o.expr: Load(name, (term, row if o.of_row else column), o.expr.dtype)
            for name, o in zip(self.staged, self.operands, strict=True)
        }

        def visit(expr: Expr) -> Expr:
            if expr in loads:
                return loads[expr]
            operands = children(expr)
            return rebuild(expr, tuple(map(visit, operands))) if operands else expr

        return visit(self.parts.next)

    def finish(self) -> Stmt:
        """What follows the reduction, for every element of the patch that is inside."""
        tile, (height, width) = self.tile, self.tile.patch
        across = tile.columns // width
        row = (
            self.var("block_row") * tile.rows
            + self.var("thread") // across * height
            + self.var("u")
        )
        column = (
            self.var("block_column") * tile.columns
            + self.var("thread") % across * width
            + self.var("v")
        )
        body = map_block(self.parts.rest, on_expr=self.with_patch)
        inside = (Var(self.row.var) < self.row.extent) & (Var(self.column.var) < self.column.extent)
        places = (Let(self.row.var, row), Let(self.column.var, column))
        return self.patch((*places, If(inside, body)))


def _ceil(extent: Expr, divisor: int) -> Expr:
    return (extent + (divisor - 1)) // divisor


def _ceil_number(number: int, divisor: int) -> int:
    return -(-number // divisor)


# ---------------------------------------------------------------- what a reduction looks like


@dataclass(frozen=True)
class Reduction:
    """A block that reduces into one register: its first value, the loop of one store, and what follows."""

    accumulator: Buffer
    first: Expr
    loop: For
    next: Expr
    rest: Block


@dataclass(frozen=True)
class Operand:
    """A part of the terms to stage. `term_fastest`: neighbours in memory differ in the term, not in the place."""

    expr: Expr
    of_row: bool
    term_fastest: bool


def reduction_parts(block: Block) -> Reduction | None:
    """The parts of a block of the form `alloc s; s[] = first; for k { s[] = next }; rest`, or None."""
    match block:
        case (
            Alloc(buffer=acc),
            Store(buffer=first_to, value=first),
            For(body=(Store() as step,)) as loop,
            *rest,
        ):
            plain = loop.kind is LoopKind.serial and acc.shape == () and acc.space is Space.register
            rest_reads = all(
                not (isinstance(s, Store) and s.buffer == acc.name) for s in walk(tuple(rest))
            )
            if plain and rest_reads and first_to == step.buffer == acc.name and not _loads(first):
                return Reduction(acc, first, loop, step.value, tuple(rest))
    return None


def product_operands(
    parts: Reduction, row: str, column: str, buffers: Mapping[str, Buffer]
) -> list[Operand] | None:
    """The parts of the terms that depend on the row or on the column; None if something depends on both.

    Both must occur: only then is anything loaded by several threads.
    """
    found: dict[Expr, bool] = {}
    if (
        not _collect(parts.next, parts, Var(row), Var(column), found)
        or len(set(found.values())) != 2
    ):
        return None
    return [
        Operand(expr, of_row, _term_fastest(expr, row if of_row else column, buffers))
        for expr, of_row in found.items()
    ]


def _collect(expr: Expr, parts: Reduction, row: Var, column: Var, found: dict[Expr, bool]) -> bool:
    """Finds the operands under an expression; False if one can't be staged."""
    loads = _loads(expr)
    if not loads or isinstance(expr, Load) and expr.buffer == parts.accumulator.name:
        return True
    inside = set(subexpressions(expr))
    sums = any(load.buffer == parts.accumulator.name for load in loads)
    wide = any(load.width > 1 for load in loads)
    if not sums and not wide and (row not in inside or column not in inside):
        found[expr] = column not in inside
        return True
    if isinstance(expr, (Load, Select)):
        return False
    return all(_collect(e, parts, row, column, found) for e in children(expr))


def _loads(expr: Expr) -> list[Load]:
    return [e for e in subexpressions(expr) if isinstance(e, Load)]


def _term_fastest(expr: Expr, place: str, buffers: Mapping[str, Buffer]) -> bool:
    """Whether the index along the innermost axis of the operand's memory does without the place."""
    for load in _loads(expr):
        axes = buffers[load.buffer].layout.axes
        if axes and Var(place) in subexpressions(load.index[axes[-1].dim]):
            return False
    return True
