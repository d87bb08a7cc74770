"""Whether iterations of a loop may meet in memory: what one stores, another one reads or stores."""

from __future__ import annotations

from convc.loops.ir import Alloc, Expr, Kernel, Let, Role, Space, Store, Var, walk
from convc.loops.simplify import Range, bounds, simplify
from convc.loops.walking import expressions, variables
from convc.schedule.structure import loads_in, loads_of


def goes_back(kernel: Kernel) -> bool:
    """True if a kernel reads memory that it writes, or data say where it goes: its iterations may depend on others."""
    written: set[str] = set()
    read: set[str] = set()
    data: set[str] = set()  # names of values that are read, or follow from what is
    registers = {
        s.buffer.name
        for s in walk(kernel.body)
        if isinstance(s, Alloc) and s.buffer.space is Space.register
    }
    for stmt in walk(kernel.body):
        places: list[Expr] = []
        for expr in expressions(stmt):
            loads = loads_of(expr)
            read.update(e.buffer for e in loads)
            places += [i for e in loads for i in e.index]
            if isinstance(stmt, Let) and (loads or _mentions(expr, data)):
                data.add(stmt.name)
        if isinstance(stmt, Store):
            written.add(stmt.buffer)
            places += stmt.index
            if any(loads_of(i) for i in stmt.index):
                return True  # two iterations may find the same place to store to
        if any(_mentions(place, data) for place in places):
            return True
    return bool((written & read) - registers)


def _mentions(expr: Expr, names: set[str]) -> bool:
    return bool(names) and not names.isdisjoint(variables(expr))


def are_slices(kernel: Kernel, var: str) -> bool:
    """True if a loop's iterations keep to a slice each of what is written: one place of each index is `var`."""
    written = {b.name for b in kernel.params if b.role is not Role.in_}
    stores = [(s.buffer, s.index) for s in walk(kernel.body) if isinstance(s, Store)]
    reached = [*stores, *((x.buffer, x.index) for x in loads_in(kernel.body))]
    dims: dict[str, int] = {}
    for buffer, at in reached:
        if buffer not in written:
            continue
        dim = at.index(Var(var)) if Var(var) in at else None
        if dim is None or dims.setdefault(buffer, dim) != dim:
            return False
    return True


def never_meet(
    a: tuple[Expr, ...], b: tuple[Expr, ...], var: str, ranges: dict[str, Range]
) -> bool:
    """True if two indices of a buffer differ, in whichever two iterations over a variable."""
    for i, j in zip(a, b, strict=True):
        (low, high), (least, most) = bounds(i, ranges), bounds(j, ranges)
        if high < least or most < low:
            return True
        if var not in (*variables(i), *variables(j)):
            low, high = bounds(simplify(i - j, ranges), ranges)
            if low > 0 or high < 0:
                return True
    return False
