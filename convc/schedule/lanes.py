"""Short loops inside of statements that an operator wrote itself, as vectors."""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import (
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Load,
    LoopKind,
    Stmt,
    Store,
    Var,
    expressions,
    map_block,
    subexpressions,
)
from convc.loops.simplify import SYMBOL_RANGE
from convc.schedule.structure import Structure, loads_of

LENGTHS = (8, 16)
"""Iterations of a loop that become lanes; the generator splits what is wider than the machine."""


def vectorize_lanes(kernel: Kernel) -> Kernel:
    """Loops of 8 or 16 iterations that compute neighbours from neighbours alone become lanes.

    Before: for g in n { for k in 8 { m[k] = max(m[k], x[g * 8 + k]) } }
    After:  for g in n { for k in 8 vectorized { m[k] = max(m[k], x[g * 8 + k]) } }
    """
    buffers = kernel.buffers()

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and _is_vector(stmt, kernel, buffers):
            return (replace(stmt, kind=LoopKind.vectorized),)
        return (stmt,)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def _is_vector(loop: For, kernel: Kernel, buffers: dict[str, Buffer]) -> bool:
    fits = isinstance(loop.extent, Const) and loop.extent.value in LENGTHS
    if not fits or loop.kind is not LoopKind.serial:
        return False
    stores = [s for s in loop.body if isinstance(s, Store)]
    lets = {s.name for s in loop.body if isinstance(s, Let)}
    written = {s.buffer: s.index for s in stores}
    if not stores or len(written) < len(stores) or len(stores) + len(lets) < len(loop.body):
        return False
    ranges = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    places = Structure(kernel, (), (), stores[0], (), ranges, buffers)

    def step(buffer: str, at: tuple[Expr, ...]) -> int | None:
        steered = any(isinstance(e, Load) or e in inner for i in at for e in subexpressions(i))
        return None if steered else places.step(buffer, at, loop.var)

    inner = {e for s in loop.body if isinstance(s, Let) for e in (Var(s.name, s.value.dtype),)}
    loads = [load for s in loop.body for e in expressions(s) for load in loads_of(e)]
    return all(step(s.buffer, s.index) == 1 for s in stores) and all(
        step(x.buffer, x.index) in (0, 1) and written.get(x.buffer, x.index) == x.index
        for x in loads
    )
