"""A kernel's tasks: the iterations of the parallel loops at its top, which threads share."""

from __future__ import annotations

from convc.loops.cost import extent_of
from convc.loops.ir import For, Kernel, LoopKind
from convc.types import Extent, size_of


def parallel_loops(kernel: Kernel) -> list[For]:
    """The parallel loops at a kernel's top, outermost first: each but the last holds nothing but the next."""
    found = []
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For) and block[0].kind is LoopKind.parallel:
        found.append(block[0])
        block = block[0].body
    return found


def task_count(kernel: Kernel) -> Extent:
    """The tasks of a kernel; IRError if a loop's extent is no polynomial of the symbols."""
    return size_of(extent_of(loop.extent) for loop in parallel_loops(kernel))
