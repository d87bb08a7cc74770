"""Rewrites that ask for memory before it is needed. They compute nothing: a prefetch has no effect but on time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from convc.loops.ir import (
    INDEX,
    Alloc,
    Block,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Role,
    Space,
    Stmt,
    Store,
    Var,
    Window,
    binary,
    const,
    index,
    walk,
)
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import expressions, subexpressions, substitute


def prefetch_results(kernel: Kernel, lane: str) -> Kernel:
    """Asks for what a tile's sums meet at their end (a residual) before they begin, a line per vector of loop `lane`.

    The loads of the end come all at once, when no arithmetic is left to hide how long they take.

    Before: for o in 4 {
              alloc acc: float32[4] register  for l in 4 { acc[l] = 0.0 }
              for c in 8 { for l in 4 { acc[l] = acc[l] + w[c] } }
              for l in 4 { y[o, l] = acc[l] + x[o, l] }
            }
    After:  for o in 4 {
              do prefetch(x[o +: 1, 0 +: 1])
              alloc acc: float32[4] register  for l in 4 { acc[l] = 0.0 }
              for c in 8 { for l in 4 { acc[l] = acc[l] + w[c] } }
              for l in 4 { y[o, l] = acc[l] + x[o, l] }
            }
    """
    return replace(kernel, body=_ends_first(kernel.body, kernel, lane))


def _ends_first(block: Block, kernel: Kernel, lane: str) -> Block:
    changed: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                changed.append(replace(stmt, body=_ends_first(stmt.body, kernel, lane)))
            case If():
                parts = (_ends_first(b, kernel, lane) for b in (stmt.then, stmt.otherwise))
                changed.append(If(stmt.condition, *parts))
            case _:
                changed.append(stmt)
    if not any(isinstance(s, Alloc) and s.buffer.space is Space.register for s in block):
        return tuple(changed)
    results = {b.name for b in kernel.params if b.role is not Role.in_}
    ends = [
        s for s in block if any(isinstance(x, Store) and x.buffer in results for x in walk((s,)))
    ]
    sums = [s for s in block if s not in ends]
    known = {e.buffer for e in _loads(sums)}
    wanted = {b.name for b in kernel.params if b.space is Space.global_ and b.name not in known}
    late = {s.name for s in walk(block) if isinstance(s, Let)}
    asked = tuple(p for end in ends for p in _asked(end, wanted, lane, late))
    return (*asked, *changed)


def _loads(block: Iterable[Stmt]) -> list[Load]:
    found = (e for s in walk(tuple(block)) for x in expressions(s) for e in subexpressions(x))
    return [e for e in found if isinstance(e, Load)]


def _asked(stmt: Stmt, wanted: set[str], lane: str, late: set[str]) -> Block:
    """A statement with a prefetch in the place of each load of `wanted` buffers, for the loop's first lane.

    What needs one of the `late` names or data to say where it lies, or whether it is read, can't be asked for early.
    """
    match stmt:
        case For():
            inner = _unique(p for s in stmt.body for p in _asked(s, wanted, lane, late))
            if stmt.var == lane:
                return tuple(_at(p, {lane: const(0, INDEX)}) for p in inner)
            return (replace(stmt, body=inner),) if inner else ()
        case If() if _is_late((stmt.condition,), late):
            return ()
        case If():
            then, otherwise = (
                _unique(p for s in b for p in _asked(s, wanted, lane, late))
                for b in (stmt.then, stmt.otherwise)
            )
            return (If(stmt.condition, then, otherwise),) if then or otherwise else ()
        case Store() | Let():
            loads = [e for e in _loads((stmt,)) if e.buffer in wanted]
            windows = [_window(e.buffer, e.index) for e in loads if not _is_late(e.index, late)]
            return tuple(Intrinsic("prefetch", (w,)) for w in windows)
        case _:
            return ()


def _is_late(values: tuple[Expr, ...], late: set[str]) -> bool:
    """True if data or one of the `late` names say what some values are."""
    return any(
        isinstance(e, Load) or (isinstance(e, Var) and e.name in late)
        for value in values
        for e in subexpressions(value)
    )


def _unique(block: Iterable[Stmt]) -> Block:
    return tuple(dict.fromkeys(block))


def _window(buffer: str, at: tuple[Expr, ...]) -> Window:
    return Window(buffer, at, (1,) * len(at))


def _at(stmt: Stmt, values: dict[str, Expr]) -> Stmt:
    """A prefetch, behind its conditions, with variables replaced."""
    match stmt:
        case If():
            then, otherwise = (
                tuple(_at(s, values) for s in b) for b in (stmt.then, stmt.otherwise)
            )
            return If(substitute(stmt.condition, values), then, otherwise)
        case For():
            return replace(stmt, body=tuple(_at(s, values) for s in stmt.body))
        case Intrinsic():
            windows = (
                replace(w, index=tuple(substitute(i, values) for i in w.index)) for w in stmt.args
            )
            return replace(stmt, args=tuple(windows))
        case _:
            return stmt


@dataclass(frozen=True)
class Stream:
    """How a tile of a contraction reads its weights, by the names of loops.

    Blocks of columns (`block`), in them rows of tiles (`row`); a sum in `steps` of `unrolled` terms, along which
    memory runs; vectors of columns (`vector`) of lanes (`lane`).
    """

    block: str
    row: str
    steps: str
    unrolled: str
    vector: str
    lane: str


def prefetch_block(kernel: Kernel, weight: str, names: Stream) -> Kernel:
    """While the rows of tiles read one block of weights again and again, asks for the next block, a part in each.

    Before: for b in 2 { for j in 2 { for c in 2 { for k in 2 { for v in 2 { for l in 4 {
              y[j, v*4 + l + b*8] = y[j, v*4 + l + b*8] + w[c*2 + k, v*4 + l + b*8]
            } } } } } }
    After:  for b in 2 { for j in 2 { for c in 2 {
              for v in 2 { do prefetch(w[min(c + j*2, 3) +: 1, v*4 + min(b + 1, 1)*8 +: 1]) }
              for k in 2 { for v in 2 { for l in 4 {
                y[j, v*4 + l + b*8] = y[j, v*4 + l + b*8] + w[c*2 + k, v*4 + l + b*8]
              } } }
            } } }
    """
    extents = {s.var: s.extent for s in walk(kernel.body) if isinstance(s, For)}
    rows, steps, terms, blocks = (
        _number(extents.get(v)) for v in (names.row, names.steps, names.unrolled, names.block)
    )
    if not (rows > 1 and steps > 1 and terms and blocks > 1):
        return kernel
    each = -(-terms // rows)  # terms of the next block that a step asks for

    def changed(block: Block, around: tuple[str, ...]) -> Block:
        result: list[Stmt] = []
        for stmt in block:
            match stmt:
                case For() if stmt.var == names.steps and around[-1:] == (names.row,):
                    result.append(replace(stmt, body=(*asked(stmt.body), *stmt.body)))
                case For():
                    inside = (*around, stmt.var) if stmt.var in (names.block, names.row) else around
                    result.append(replace(stmt, body=changed(stmt.body, inside)))
                case If():
                    parts = (changed(b, around) for b in (stmt.then, stmt.otherwise))
                    result.append(If(stmt.condition, *parts))
                case _:
                    result.append(stmt)
        return tuple(result)

    def asked(body: Block) -> Block:
        load = next(x for x in _loads(body) if x.buffer == weight)
        step = Var(names.row) * index(steps) + Var(names.steps)
        following = binary("min", Var(names.block) + index(1), index(blocks - 1))
        found: list[Stmt] = []
        for k in range(each):
            term = binary("min", step * index(each) + index(k), index(steps * terms - 1))
            values: dict[str, Expr] = {
                names.block: following, names.steps: index(0), names.unrolled: term,
                names.lane: index(0),
            }  # fmt: skip
            at = tuple(substitute(i, values) for i in load.index)
            ask: Stmt = Intrinsic("prefetch", (_window(weight, at),))
            vectors = extents.get(names.vector)
            found.append(For(names.vector, vectors, (ask,)) if vectors is not None else ask)
        return tuple(found)

    return simplify_kernel(replace(kernel, body=changed(kernel.body, ())))


def _number(extent: Expr | None) -> int:
    return int(extent.value) if isinstance(extent, Const) else 0
