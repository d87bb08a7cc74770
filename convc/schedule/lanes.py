"""Loops that may be lanes in nests of any form: their iterations compute neighbours and know nothing of each other."""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import (
    Alloc,
    Block,
    Const,
    For,
    Kernel,
    Let,
    Load,
    LoopKind,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.walking import map_block, subexpressions
from convc.schedule.dependence import never_meet
from convc.schedule.structure import Places, loads_in, places_of

LENGTHS = (2, 3, 4, 8, 16)
"""Iterations that become lanes: an image's channels, and whole vectors. Longer loops are worth splitting."""


def vectorize_lanes(kernel: Kernel) -> Kernel:
    """Loops of few iterations become lanes where they may; the generator splits what is wider than the machine.

    Before: for g in n { for k in 8 { m[k] = max(m[k], x[g * 8 + k]) } }
    After:  for g in n { for k in 8 vectorized { m[k] = max(m[k], x[g * 8 + k]) } }
    """
    places = places_of(kernel)

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and _iterations(stmt) in LENGTHS and may_be_lanes(stmt, places):
            return (replace(stmt, kind=LoopKind.vectorized),)
        return (stmt,)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def may_be_lanes(loop: For, places: Places) -> bool:
    """True if iterations store neighbours, read neighbours or one place, and none reaches what another one stores.

    The loop's statements are straight, but for reductions into registers of an iteration's own.
    """
    if loop.kind is not LoopKind.serial or not is_straight(loop):
        return False
    own = {s.buffer.name for s in loop.body if isinstance(s, Alloc)}
    stores = [s for s in walk(loop.body) if isinstance(s, Store) and s.buffer not in own]
    loads = [x for x in loads_in(loop.body) if x.buffer not in own]
    named = {Var(s.name, s.value.dtype) for s in loop.body if isinstance(s, Let)}

    def step(access: Load | Store) -> int | None:
        inside = (e for i in access.index for e in subexpressions(i))
        if any(isinstance(e, Load) or e in named for e in inside):
            return None  # data say where
        return places.step(access.buffer, access.index, loop.var)

    both: list[Load | Store] = [*loads, *stores]
    return (
        bool(stores)
        and all(step(s) == 1 for s in stores)
        and all(step(x) in (0, 1) for x in loads)
        and all(
            x.index == s.index or never_meet(x.index, s.index, loop.var, places.ranges)
            for s in stores
            for x in both
            if x.buffer == s.buffer
        )
    )


def is_straight(loop: For) -> bool:
    """True for a loop of statements without branches, perhaps with reductions into registers among them."""
    return isinstance(loop.extent, Const) and all(
        isinstance(s, (Alloc, Let, Store)) or isinstance(s, For) and _is_reduction(s)
        for s in loop.body
    )


def _is_reduction(loop: For) -> bool:
    return len(loop.body) == 1 and isinstance(loop.body[0], Store) and loop.body[0].index == ()


def _iterations(loop: For) -> int | None:
    return int(loop.extent.value) if isinstance(loop.extent, Const) else None
