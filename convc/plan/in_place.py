"""Results that take the place of an operand: one region less in the arena, and one stream less through the caches."""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import (
    Binary,
    Buffer,
    Expr,
    Kernel,
    Load,
    Role,
    Space,
    Store,
    expressions,
    subexpressions,
    walk,
)
from convc.program.ir import Entry, Program, RegionKind, Step


def reuse_in_place(program: Program) -> Program:
    """Lets a step write over an operand that it is the last to read, where each element is read only to be replaced.

    That is the residual of a convolution's epilogue, or the operand of a pointwise kernel: same shape, same layout, and
    every read at an index that the same iteration stores to.
    """
    reusable = {name: in_place_operands(kernel) for name, kernel in program.kernels.items()}
    entries = []
    for entry in program.entries:
        entries.append(_renamed(entry, _replacements(program, entry, reusable)))
    used = {a.region for e in entries for s in e.steps for a in s.args}
    ports = {p.region for e in entries for p in (*e.inputs, *e.outputs)}
    regions = tuple(r for r in program.regions if r.name in used or r.name in ports)
    return replace(program, entries=tuple(entries), regions=regions)


def in_place_operands(kernel: Kernel) -> tuple[int, ...]:
    """Positions of the inputs whose memory may hold the kernel's output: none if an element is computed twice."""
    outputs = [b for b in kernel.params if b.role is Role.out]
    if len(outputs) != 1:
        return ()
    (y,) = outputs
    stored = {s.index for s in walk(kernel.body) if isinstance(s, Store) and s.buffer == y.name}
    if any(_overlaps(i) for at in stored for i in at):
        return ()
    read: dict[str, set[tuple[Expr, ...]]] = {b.name: set() for b in kernel.params}
    for stmt in walk(kernel.body):
        for expr in expressions(stmt):
            for e in subexpressions(expr):
                if isinstance(e, Load) and e.buffer in read:
                    read[e.buffer].add(e.index)
    return tuple(
        position
        for position, buffer in enumerate(kernel.params)
        if _fits(buffer, y) and read[buffer.name] and read[buffer.name] <= stored
    )


def _overlaps(expr: Expr) -> bool:
    """True for the index of a last tile that begins early: it computes elements again."""
    return any(isinstance(e, Binary) and e.op == "min" for e in subexpressions(expr))


def _fits(x: Buffer, y: Buffer) -> bool:
    return (
        x.role is Role.in_
        and x.space is Space.global_
        and x.dtype is y.dtype
        and x.shape == y.shape
        and x.layout == y.layout
    )


def _replacements(
    program: Program, entry: Entry, reusable: dict[str, tuple[int, ...]]
) -> dict[str, str]:
    """For each region that is written in place: the region that it becomes."""
    regions = {r.name: r for r in program.regions}
    last: dict[str, int] = {}
    writers: dict[str, list[Step]] = {}
    for position, step in enumerate(entry.steps):
        for argument in step.args:
            last[argument.region] = position
        writers.setdefault(step.args[-1].region, []).append(step)
    names: dict[str, str] = {}
    for position, step in enumerate(entry.steps):
        target = step.args[-1]
        y = program.kernels[step.kernel].params[-1]
        region = regions[target.region]
        if region.kind is not RegionKind.arena or region.size != y.size * y.dtype.itemsize:
            continue
        if any(w is not step and not _clears(program, w) for w in writers[target.region]):
            continue
        for operand in reusable[step.kernel]:
            source = names.get(step.args[operand].region, step.args[operand].region)
            dies = last[step.args[operand].region] == position and last[source] <= position
            alone = sum(a.region == step.args[operand].region for a in step.args) == 1
            if (
                dies
                and alone
                and step.args[operand].offset == target.offset == 0
                and regions[source].kind is RegionKind.arena
                and regions[source].size == region.size
            ):
                names[target.region] = source
                last[source] = last[target.region]
                break
    return names


def _clears(program: Program, step: Step) -> bool:
    """True for a step that only zeroes the border of its region."""
    return len(program.kernels[step.kernel].params) == 1


def _renamed(entry: Entry, names: dict[str, str]) -> Entry:
    steps = tuple(
        replace(s, args=tuple(replace(a, region=names.get(a.region, a.region)) for a in s.args))
        for s in entry.steps
    )
    return replace(entry, steps=steps)
