"""Output loops in other orders, and those that run on from one another through memory."""

from __future__ import annotations

from collections.abc import Sequence

from convc.loops.ir import Kernel
from convc.loops.rewrites import fuse, reorder
from convc.loops.simplify import simplify_kernel
from convc.schedule.structure import Loop, Structure, analyse, analysed


def move_innermost(structure: Structure, var: str) -> Kernel:
    """A loop innermost of the output loops."""
    kernel = structure.kernel
    names = [x.var for x in structure.outputs]
    for inner in names[names.index(var) + 1 :]:
        kernel = reorder(kernel, var, inner)
    return kernel


def ordered(structure: Structure, names: Sequence[str]) -> Kernel:
    """These loops innermost of the output loops, in this order."""
    for name in names:
        structure = analysed(move_innermost(structure, name))
    return structure.kernel


def runs_on(structure: Structure, outer: Loop, inner: Loop) -> bool:
    """True if one step of `outer` is `extent` steps of `inner` in every access."""
    assert inner.extent is not None
    for buffer, at in structure.accesses():
        a, b = structure.step(buffer, at, outer.var), structure.step(buffer, at, inner.var)
        if a is None or b is None or a != b * inner.extent:
            return False
    return True


def joined(structure: Structure, outer: Loop, inner: Loop, name: str) -> Structure | None:
    """The structure with two loops, directly inside one another, as one; None where some access isn't linear in it."""
    whole = analyse(simplify_kernel(fuse(structure.kernel, outer.var, inner.var, name)))
    if whole is None or any(whole.step(x.buffer, x.index, name) is None for x in whole.loads()):
        return None
    return whole
