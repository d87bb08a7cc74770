"""Rewrites of the loops themselves: split, reorder, fuse, sink, and what kind of loop each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Stmt,
    Store,
    Var,
    Window,
    binary,
    minimum,
    walk,
)
from convc.loops.walking import map_block, map_expr, substitute_block, variables


def at_loops(kernel: Kernel, var: str, change: Callable[[For], Block]) -> Kernel:
    """Replaces each loop over a variable; IRError if there is none."""
    found = False

    def visit(block: Block) -> Block:
        nonlocal found
        result: list[Stmt] = []
        for stmt in block:
            if isinstance(stmt, If):
                result.append(If(stmt.condition, visit(stmt.then), visit(stmt.otherwise)))
            elif not isinstance(stmt, For):
                result.append(stmt)
            elif stmt.var == var:
                found = True
                result.extend(change(stmt))
            else:
                result.append(For(stmt.var, stmt.extent, visit(stmt.body), stmt.kind))
        return tuple(result)

    body = visit(kernel.body)
    if not found:
        raise IRError(f"kernel {kernel.name}: there is no loop over {var!r}")
    return Kernel(kernel.name, kernel.params, body, kernel.notes)


def split(
    kernel: Kernel, var: str, factor: int, outer: str, inner: str, tail: str = "peel"
) -> Kernel:
    """Makes two loops of one, `inner` of `factor` iterations. `tail` says what becomes of what `factor` leaves over.

    peel: the rest is a second loop `inner` behind the first (`var_rest` if its extent is symbolic).
    guard: the last tile is only partly run.
    overlap: the last tile begins early and computes some iterations again, which must be harmless.
    clip: the last tile has fewer iterations.

    Before: for i in 10 { y[i] = x[i] }
    After:  for io in 2 { for ii in 4 { y[io*4 + ii] = x[io*4 + ii] } } for ii in 2 { y[ii + 8] = x[ii + 8] }
    """

    def change(loop: For) -> Block:
        extent = loop.extent
        exact = isinstance(extent, Const) and int(extent.value) % factor == 0
        position = Var(outer) * factor + Var(inner)
        body = substitute_block(loop.body, {var: position})
        if exact:
            return (_nest(outer, extent // factor, inner, factor, body, loop.kind),)
        if tail == "guard":
            tiles = (extent + (factor - 1)) // factor
            guarded: Block = (If(position < extent, body),)
            return (_nest(outer, tiles, inner, factor, guarded, loop.kind),)
        if tail == "overlap":
            start = minimum(Var(outer) * factor, extent - factor)
            early = substitute_block(loop.body, {var: start + Var(inner)})
            return (
                _nest(outer, (extent + (factor - 1)) // factor, inner, factor, early, loop.kind),
            )
        if tail == "clip":
            tiles = (extent + (factor - 1)) // factor
            length = minimum(Const(factor, INDEX), extent - Var(outer) * factor)
            return (For(outer, tiles, (For(inner, length, body),), loop.kind),)
        whole = extent // factor
        rest_start = whole * factor
        rest_extent = binary("-", extent, rest_start)
        rest_var = inner if isinstance(extent, Const) else f"{var}_rest"
        rest_body = substitute_block(loop.body, {var: rest_start + Var(rest_var)})
        rest = For(rest_var, rest_extent, _with_own_buffers(rest_body))
        main = _nest(outer, whole, inner, factor, body, loop.kind)
        empty = isinstance(whole, Const) and whole.value == 0
        return (rest,) if empty else (main, rest)

    return at_loops(kernel, var, change)


def _with_own_buffers(block: Block) -> Block:
    """A copy of a block whose local buffers have names of their own."""
    names = {s.buffer.name: f"{s.buffer.name}_rest" for s in walk(block) if isinstance(s, Alloc)}

    def on_expr(expr: Expr) -> Expr:
        def visit(e: Expr) -> Expr:
            if isinstance(e, Load) and e.buffer in names:
                return replace(e, buffer=names[e.buffer])
            return e

        return map_expr(visit, expr)

    def on_stmt(stmt: Stmt) -> Block:
        match stmt:
            case Alloc() if stmt.buffer.name in names:
                return (Alloc(replace(stmt.buffer, name=names[stmt.buffer.name])),)
            case Store() if stmt.buffer in names:
                return (replace(stmt, buffer=names[stmt.buffer]),)
            case Intrinsic():
                windows = (replace(w, buffer=names.get(w.buffer, w.buffer)) for w in stmt.args)
                return (replace(stmt, args=tuple(windows)),)
        return (stmt,)

    return map_block(block, on_expr, on_stmt) if names else block


def _nest(outer: str, tiles: Expr, inner: str, factor: int, body: Block, kind: LoopKind) -> For:
    return For(outer, tiles, (For(inner, Const(factor, INDEX), body),), kind)


def reorder(kernel: Kernel, outer: str, inner: str) -> Kernel:
    """Interchanges two loops that stand directly inside one another, `outer` ending inside.

    Before: for i in 4 { for j in 8 { y[i, j] = x[j, i] } }
    After:  for j in 8 { for i in 4 { y[i, j] = x[j, i] } }
    """

    def change(loop: For) -> Block:
        if len(loop.body) != 1 or not isinstance(loop.body[0], For) or loop.body[0].var != inner:
            raise IRError(f"kernel {kernel.name}: {inner} is not directly inside {outer}")
        within = loop.body[0]
        if outer in variables(within.extent):
            raise IRError(f"kernel {kernel.name}: the extent of {inner} depends on {outer}")
        return (replace(within, body=(replace(loop, body=within.body),)),)

    return at_loops(kernel, outer, change)


def fuse(kernel: Kernel, outer: str, inner: str, fused: str) -> Kernel:
    """Makes one loop of two that stand directly inside one another; the inner extent is constant.

    Before: for i in 4 { for j in 8 { y[i, j] = x[i, j] } }
    After:  for f in 32 { y[f // 8, f % 8] = x[f // 8, f % 8] }
    """

    def change(loop: For) -> Block:
        if len(loop.body) != 1 or not isinstance(loop.body[0], For) or loop.body[0].var != inner:
            raise IRError(f"kernel {kernel.name}: {inner} is not directly inside {outer}")
        within = loop.body[0]
        if not isinstance(within.extent, Const):
            raise IRError(f"kernel {kernel.name}: the extent of {inner} is not constant")
        parts = {outer: Var(fused) // within.extent, inner: Var(fused) % within.extent}
        body = substitute_block(within.body, parts)
        return (For(fused, loop.extent * within.extent, body, loop.kind),)

    return at_loops(kernel, outer, change)


def drop_unit_loops(kernel: Kernel) -> Kernel:
    """Loops that run once become their body.

    Before: for i in 1 { for j in 8 { y[i, j] = x[i, j] } }
    After:  for j in 8 { y[0, j] = x[0, j] }
    """

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.extent == Const(1, INDEX):
            return substitute_block(stmt.body, {stmt.var: Const(0, INDEX)})
        return (stmt,)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def sink(kernel: Kernel, var: str) -> Kernel:
    """Moves a loop of independent iterations into everything inside it: each local buffer gets a dimension for it.

    Before: for i in 4 { alloc a: float32[] register  a[] = 0.0
                         for k in 8 { a[] = a[] + x[i, k] }  y[i] = a[] }
    After:  alloc a: float32[4] register  for i in 4 { a[i] = 0.0 }
            for k in 8 { for i in 4 { a[i] = a[i] + x[i, k] } }  for i in 4 { y[i] = a[i] }
    """
    return at_loops(kernel, var, lambda loop: _distribute(kernel, loop, loop.body))


def _distribute(kernel: Kernel, loop: For, block: Block) -> Block:
    """The loop around each statement of its body, as deep inside as it goes."""
    result: list[Stmt] = []
    rest = list(block)
    while rest:
        stmt = rest.pop(0)
        match stmt:
            case Alloc():
                if not isinstance(loop.extent, Const):
                    raise IRError(
                        f"kernel {kernel.name}: {loop.var} can't be sunk below the buffer "
                        f"{stmt.buffer.name}: its extent is not constant"
                    )
                grown = _grown(stmt.buffer, int(loop.extent.value))
                result.append(Alloc(grown))
                rest = list(_indexed(tuple(rest), grown.name, Var(loop.var)))
            case For() if loop.var not in variables(stmt.extent):
                result.append(replace(stmt, body=_distribute(kernel, loop, stmt.body)))
            case If() if not stmt.otherwise:
                result.extend(_guarded(stmt.condition, loop, _distribute(kernel, loop, stmt.then)))
            case Let():
                # The value is needed by what follows: the loop stays around all of it.
                result.append(replace(loop, body=(stmt, *rest)))
                rest = []
            case Store() | For() | If() | Intrinsic() | Barrier():
                result.append(replace(loop, body=(stmt,)))
    return tuple(result)


def _guarded(condition: Expr, loop: For, block: Block) -> Block:
    """The condition inside each innermost copy of the loop."""

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.var == loop.var:
            return (replace(stmt, body=(If(condition, stmt.body),)),)
        return (stmt,)

    return map_block(block, on_stmt=on_stmt)


def _grown(buffer: Buffer, extent: int) -> Buffer:
    shape = (*buffer.shape, extent)
    return replace(buffer, shape=shape, layout=Layout.dense(len(shape)))


def _indexed(block: Block, name: str, var: Expr) -> Block:
    """Adds an index to every access of a buffer."""

    def on_expr(expr: Expr) -> Expr:
        def visit(e: Expr) -> Expr:
            if isinstance(e, Load) and e.buffer == name:
                return Load(name, (*e.index, var), e.dtype, e.width)
            return e

        return map_expr(visit, expr)

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, Store) and stmt.buffer == name:
            return (Store(name, (*stmt.index, var), stmt.value),)
        if isinstance(stmt, Intrinsic):
            windows = (
                Window(name, (*w.index, var), (*w.sizes, 1)) if w.buffer == name else w
                for w in stmt.args
            )
            return (Intrinsic(stmt.name, tuple(windows)),)
        return (stmt,)

    return map_block(block, on_expr, on_stmt)


def bind(kernel: Kernel, var: str, kind: LoopKind) -> Kernel:
    """Makes a loop parallel, vectorized, unrolled, or a dimension of a GPU's grid.

    Before: for i in 4 { y[i] = x[i] }
    After:  for i in 4 unrolled { y[i] = x[i] }
    """
    return at_loops(kernel, var, lambda loop: (replace(loop, kind=kind),))


def unroll(kernel: Kernel, var: str) -> Kernel:
    """The generator walks the loop.

    Before: for i in 4 { y[i] = x[i] }
    After:  for i in 4 unrolled { y[i] = x[i] }
    """
    return bind(kernel, var, LoopKind.unrolled)


def vectorize(kernel: Kernel, var: str) -> Kernel:
    """The iterations become lanes.

    Before: for i in 4 { y[i] = x[i] }
    After:  for i in 4 vectorized { y[i] = x[i] }
    """
    return bind(kernel, var, LoopKind.vectorized)


def parallelize(kernel: Kernel, var: str) -> Kernel:
    """The iterations become tasks.

    Before: for i in 4 { y[i] = x[i] }
    After:  for i in 4 parallel { y[i] = x[i] }
    """
    return bind(kernel, var, LoopKind.parallel)
