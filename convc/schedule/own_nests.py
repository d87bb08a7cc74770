"""Schedules of nests that an operator wrote itself, of which only their accesses are known: tasks and lanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from convc.loops.ir import (
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Load,
    LoopKind,
    Role,
    Stmt,
    Store,
    Var,
    expressions,
    map_block,
    walk,
)
from convc.loops.simplify import SYMBOL_RANGE
from convc.schedule.finishing import parallel_top
from convc.schedule.structure import Structure, loads_of

MOST_LANES = 4
"""Channels of an image. Longer loops in such a nest are worth splitting, which nobody does here."""


def schedule_own_nest(kernel: Kernel) -> Kernel:
    """Tasks of the outer loops whose iterations are independent, lanes of the short inner ones."""
    kernel = vectorize_short_loops(kernel)
    return parallel_top(kernel) if _is_independent(kernel) else kernel


def vectorize_short_loops(kernel: Kernel) -> Kernel:
    """Loops of 2 to 4 iterations that do nothing but store neighbours, computed from neighbours, become lanes.

    Before: for i in N { for c in 3 { y[i, c] = x[i * 2, c] } }
    After:  for i in N { for c in 3 vectorized { y[i, c] = x[i * 2, c] } }
    """
    buffers = kernel.buffers()

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and _are_lanes(stmt, kernel, buffers):
            return (replace(stmt, kind=LoopKind.vectorized),)
        return (stmt,)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def _are_lanes(loop: For, kernel: Kernel, buffers: dict[str, Buffer]) -> bool:
    is_short = isinstance(loop.extent, Const) and 2 <= loop.extent.value <= MOST_LANES
    if loop.kind is not LoopKind.serial or not is_short:
        return False
    stores = [s for s in loop.body if isinstance(s, Store)]
    if len(stores) < len(loop.body):
        return False
    read = {load.buffer for load in _loads(loop.body)}
    if read & {s.buffer for s in stores}:
        return False

    ranges = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    places = Structure(kernel, (), (), stores[0], (), ranges, buffers)
    return all(places.step(s.buffer, s.index, loop.var) == 1 for s in stores) and all(
        places.step(load.buffer, load.index, loop.var) in (0, 1) for load in _loads(loop.body)
    )


def _is_independent(kernel: Kernel) -> bool:
    """Whether each outer loop's variable is an index of everything that is stored, and of what is read of that."""
    outer: list[Expr] = []
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For):
        outer.append(Var(block[0].var))
        block = block[0].body
    params = {b.name for b in kernel.params if b.role is not Role.in_}
    stores = [s for s in walk(kernel.body) if isinstance(s, Store) and s.buffer in params]
    if not stores:
        return False
    again = [load.index for load in _loads(kernel.body) if load.buffer in params]
    places = [*(s.index for s in stores), *again]
    return all(
        var in at and at.index(var) == _place(var, stores[0]) for var in outer for at in places
    )


def _place(var: Expr, store: Store) -> int | None:
    """The dimension whose index is the variable."""
    return store.index.index(var) if var in store.index else None


def _loads(block: Block) -> Iterator[Load]:
    for stmt in walk(block):
        for expr in expressions(stmt):
            yield from loads_of(expr)
