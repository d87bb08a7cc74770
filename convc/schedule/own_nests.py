"""Schedules of nests of any form, of which only their accesses are known: tasks and lanes."""

from __future__ import annotations

from convc.loops.ir import For, Kernel, Role, Store, walk
from convc.schedule.dependence import are_slices
from convc.schedule.finishing import parallel_top
from convc.schedule.lanes import vectorize_lanes


def schedule_own_nest(kernel: Kernel) -> Kernel:
    """Tasks of the outer loops whose iterations are independent, lanes of the short inner ones."""
    kernel = vectorize_lanes(kernel)
    return parallel_top(kernel) if _is_independent(kernel) else kernel


def _is_independent(kernel: Kernel) -> bool:
    """True if each iteration of the outer loops keeps to a slice of its own, and stores to it."""
    outer: list[str] = []
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For):
        outer.append(block[0].var)
        block = block[0].body
    written = {b.name for b in kernel.params if b.role is not Role.in_}
    stored = any(isinstance(s, Store) and s.buffer in written for s in walk(kernel.body))
    return stored and all(are_slices(kernel, var) for var in outer)
