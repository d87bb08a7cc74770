"""Rewrites of buffers: where logical elements lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from convc.errors import IRError
from convc.loops.ir import Alloc, Block, Buffer, Kernel, Layout, Stmt, map_block


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
    After:  kernel k(in x: float32[4, 8] @(d1, d0), out y: float32[4, 8]) { for i in 4 { for j in 8 { y[i, j] = x[i, j] } } }
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
