"""How every schedule for CPUs ends: tasks at the top, functions in arithmetic, notes on what was chosen."""

from __future__ import annotations

import math
from dataclasses import replace

from convc.loops.ir import (
    INDEX,
    Binary,
    Block,
    Call,
    Const,
    For,
    If,
    Kernel,
    Let,
    LoopKind,
    Store,
    walk,
)
from convc.loops.math import expand_math
from convc.loops.rewrites import drop_unit_loops, parallelize, split_fma
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import expressions, subexpressions
from convc.target import Target


def finish(kernel: Kernel, target: Target, strategy: str, tile: str) -> Kernel:
    """The last rewrites that every schedule shares."""
    kernel = drop_unit_loops(simplify_kernel(kernel))
    kernel = expand_math(kernel, fma=target.fma, scaling=target.scaling)
    if not target.fma:
        kernel = split_fma(kernel)
    notes = (*kernel.notes, ("strategy", strategy), *((("tile", tile),) if tile else ()))
    return replace(kernel, notes=notes)


def loop_order(kernel: Kernel) -> list[str]:
    """The loop variables in order of first appearance."""
    return list(dict.fromkeys(s.var for s in walk(kernel.body) if isinstance(s, For)))


def has_loop(kernel: Kernel, var: str) -> bool:
    return var in loop_order(kernel)


# Tasks that are enough to share among the cores of a machine; further loops stay inside, where they cost no division.
_ENOUGH_TASKS = 128

# Element operations of an iteration at the least, to be a task: below that, finding out which one it is costs more.
_LEAST_WORK = 1024


def parallel_top(kernel: Kernel) -> Kernel:
    """The outer loops of the perfect nest at the top become tasks, until there are enough for one image."""
    block = kernel.body
    tasks = 1
    while (
        len(block) == 1
        and isinstance(block[0], For)
        and block[0].kind is LoopKind.serial
        and tasks < _ENOUGH_TASKS
        and (block is kernel.body or work_of(block[0].body, _LEAST_WORK) >= _LEAST_WORK)
    ):
        loop = block[0]
        kernel = parallelize(kernel, loop.var)
        tasks *= int(loop.extent.value) if isinstance(loop.extent, Const) else 1
        block = loop.body
    return kernel


def work_of(block: Block, enough: float = math.inf) -> int:
    """Element operations of a block: arithmetic and stores, an unknown number of iterations counted as one.

    Counting ends where there are `enough`.
    """
    total = 0
    for stmt in block:
        match stmt:
            case For():
                extent = int(stmt.extent.value) if isinstance(stmt.extent, Const) else 1
                total += extent * work_of(stmt.body, (enough - total) / max(1, extent))
            case If():
                total += max(work_of(b, enough - total) for b in (stmt.then, stmt.otherwise))
            case Store() | Let():
                inside = [e for x in expressions(stmt) for e in subexpressions(x)]
                total += sum(isinstance(e, (Binary, Call)) and e.dtype is not INDEX for e in inside)
                total += isinstance(stmt, Store)
            case _:
                pass
        if total >= enough:
            break
    return max(1, total)
