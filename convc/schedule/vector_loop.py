"""Which output loop's iterations become lanes: one whose neighbours are neighbours in memory."""

from __future__ import annotations

from convc.loops.ir import Binary, Const, Load, Role
from convc.loops.rewrites import split
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import subexpressions
from convc.schedule.constants import is_constant
from convc.schedule.structure import Loop, Structure, analysed, depends_on, moves_with
from convc.target import Target


def find_vector_loop(structure: Structure) -> tuple[Structure, Loop | None]:
    """The output loop whose neighbours are neighbours in memory, if every access is linear in it."""
    outputs = {b.name for b in structure.kernel.params if b.role is not Role.in_}
    for loop in structure.outputs:
        if structure.output_step(loop.var) != 1 or loop.extent in (None, 1):
            continue
        split_up = _by_group(structure, loop)
        if split_up is not None:
            structure, loop = split_up
        stores = {at: buffer for buffer, at in structure.accesses() if buffer in outputs}
        if all(_vectorizable(structure, load, loop.var) for load in structure.loads()) and all(
            structure.step(buffer, at, loop.var) == 1 for at, buffer in stores.items()
        ):
            return structure, loop
    return structure, _packed_loop(structure)


def _packed_loop(structure: Structure) -> Loop | None:
    """Failing a contiguous one: the loop that a packed factor moves with and the other doesn't.

    The output is then written lane by lane, once per sum: a convolution whose result is wanted channels first.
    """
    factors = structure.contraction()
    if factors is None:
        return None
    for still, moving in (factors, factors[::-1]):
        if not isinstance(moving, Load) or not is_constant(structure, moving):
            continue
        for loop in structure.outputs:
            if loop.extent in (None, 1) or moves_with(still, loop.var):
                continue
            steady = all(
                structure.step(x.buffer, x.index, loop.var) is not None for x in structure.loads()
            )
            if steady and moves_with(moving, loop.var) and structure.output_step(loop.var):
                return loop
    return None


def _vectorizable(structure: Structure, load: Load, var: str) -> bool:
    """Linear in the loop, in small steps; packed weights may move by any, since packing makes it one."""
    moved = structure.step(load.buffer, load.index, var)
    return moved is not None and (is_constant(structure, load) or moved <= 4)


def _by_group(structure: Structure, loop: Loop) -> tuple[Structure, Loop] | None:
    """A channel loop as groups x channels, where an input is indexed by `channel // size` (grouped convolution)."""
    divisors = {
        e.b
        for load in structure.loads()
        for i in load.index
        for e in subexpressions(i)
        if isinstance(e, Binary) and e.op in ("//", "%") and depends_on(e, loop.var)
    }
    sizes = [int(d.value) for d in divisors if isinstance(d, Const)]
    if len(divisors) != 1 or not sizes or loop.extent is None:
        return None
    (size,) = sizes
    if size <= 1 or loop.extent % size:
        return None
    inner = f"{loop.var}g"
    kernel = split(structure.kernel, loop.var, size, loop.var, inner)
    return analysed(simplify_kernel(kernel)), Loop(inner, size, grouped=True)


def lanes_for(structure: Structure, target: Target) -> int:
    """Lanes of the widest type that the kernel computes in."""
    sizes = [structure.store.value.dtype.itemsize]
    sizes += [u.value.dtype.itemsize for u in structure.updates]
    return target.lanes(max(max(sizes), 4))
