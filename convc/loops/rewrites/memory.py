"""Rewrites of buffers: where logical elements lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from convc.errors import IRError
from convc.loops.ir import (
    Alloc,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Layout,
    Load,
    Space,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.walking import map_block, map_expr, substitute


def _with_buffer(kernel: Kernel, name: str, change: Callable[[Buffer], Buffer]) -> Kernel:
    if name not in kernel.buffers():
        raise IRError(f"kernel {kernel.name}: there is no buffer {name!r}")
    params = tuple(change(b) if b.name == name else b for b in kernel.params)

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, Alloc) and stmt.buffer.name == name:
            return (Alloc(change(stmt.buffer)),)
        return (stmt,)

    return replace(kernel, params=params, body=map_block(kernel.body, on_stmt=on_stmt))


def relayout(kernel: Kernel, name: str, layout: Layout) -> Kernel:
    """Gives a buffer another layout. No statement changes: indices are logical.

    Before: kernel k(in x: float32[4, 8], out y: float32[4, 8]) { for i in 4 { for j in 8 { y[i, j] = x[i, j] } } }
    After:  kernel k(in x: float32[4, 8] @(d1, d0), out y: float32[4, 8]) {
              for i in 4 { for j in 8 { y[i, j] = x[i, j] } } }
    """
    return _with_buffer(kernel, name, lambda b: replace(b, layout=layout))


def pad_extent(kernel: Kernel, name: str, dim: int, multiple: int) -> Kernel:
    """Rounds a dimension of an input up: its owner fills the new elements with zeros (packed weights).

    Before: kernel k(in w: float32[5], out y: float32[5]) { for i in 5 { y[i] = w[i] } }
    After:  kernel k(in w: float32[8], out y: float32[5]) { for i in 5 { y[i] = w[i] } }
    """

    def change(buffer: Buffer) -> Buffer:
        extent = buffer.shape[dim]
        if not isinstance(extent, int):
            raise IRError(f"kernel {kernel.name}: dimension {dim} of {name} is symbolic")
        shape = list(buffer.shape)
        shape[dim] = -(-extent // multiple) * multiple
        return replace(buffer, shape=tuple(shape))

    return _with_buffer(kernel, name, change)


def stage(kernel: Kernel, value: Expr, over: str, around: str, name: str) -> Kernel:
    """Computes an expression of the loop `over`, which is inside the loop `around`, before `around`: into a buffer.

    The expression must not depend on `around` or on loops between the two.

    Before: for o in 4 { for c in 8 { y[o, c] = max(x[c], 0.0) * w[o, c] } }
    After:  alloc staged: float32[8] stack  for stage in 8 { staged[stage] = max(x[stage], 0.0) }
            for o in 4 { for c in 8 { y[o, c] = staged[c] * w[o, c] } }
    """
    extents = [s.extent for s in walk(kernel.body) if isinstance(s, For) and s.var == over]
    if len(extents) != 1 or not isinstance(extents[0], Const):
        raise IRError(f"kernel {kernel.name}: expected one loop over {over!r} of a constant extent")
    extent = int(extents[0].value)
    buffer = Buffer(name, value.dtype, (extent,), space=Space.stack)
    fill = Store(name, (Var("stage"),), substitute(value, {over: Var("stage")}))
    read = Load(name, (Var(over),), value.dtype)

    def replaced(expr: Expr) -> Expr:
        return map_expr(lambda e: read if e == value else e, expr)

    def on_stmt(stmt: Stmt) -> Block:
        if not (isinstance(stmt, For) and stmt.var == around):
            return (stmt,)
        loop = replace(stmt, body=map_block(stmt.body, replaced))
        return (Alloc(buffer), For("stage", extents[0], (fill,)), loop)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))
