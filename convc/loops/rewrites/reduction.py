"""Rewrites of reductions: partial results side by side, in an order that the schedule chooses and writes down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Role,
    Space,
    Stmt,
    Store,
    Var,
    binary,
    const,
    walk,
)
from convc.loops.rewrites.grid import fresh
from convc.loops.scalars import limits
from convc.loops.walking import map_block, map_expr, subexpressions, substitute
from convc.types import DType


@dataclass(frozen=True)
class Reduction:
    """A loop that does nothing but update one accumulator: `acc[] = acc[] op element`, or a fused multiply-add."""

    loop: For
    extent: int
    accumulator: str
    update: Expr
    op: str  # "+", "*", "min" or "max"

    def combined(self, a: Expr, b: Expr) -> Expr:
        return binary(self.op, a, b)

    def updated(self, partial: Load, position: Expr) -> Store:
        """The update of a partial result by the element at a position."""

        def visit(e: Expr) -> Expr:
            return partial if isinstance(e, Load) and e.buffer == self.accumulator else e

        value = map_expr(visit, substitute(self.update, {self.loop.var: position}))
        return Store(partial.buffer, partial.index, value)


def reduction_over(kernel: Kernel, var: str) -> Reduction | None:
    """The reduction that a loop is; None if it is none, or if its extent is symbolic."""
    found = [s for s in walk(kernel.body) if isinstance(s, For) and s.var == var]
    if len(found) != 1 or not isinstance(found[0].extent, Const):
        return None
    loop = found[0]
    if len(loop.body) != 1 or not isinstance(loop.body[0], Store) or loop.body[0].index:
        return None
    update = loop.body[0]
    accumulator = kernel.buffers().get(update.buffer)
    if accumulator is None or accumulator.role is not Role.local:
        return None
    op = _combiner(update)
    if op is None:
        return None
    return Reduction(loop, int(found[0].extent.value), update.buffer, update.value, op)


def _combiner(update: Store) -> str | None:
    """How an update combines its accumulator with an element that doesn't depend on it."""
    match update.value:
        case Binary(op="+" | "*" | "min" | "max" as op, a=a, b=b):
            operands: tuple[Expr, ...] = (a, b)
        case Call(function="fma", args=args):
            op, operands = "+", (args[2], binary("*", args[0], args[1]))
        case _:
            return None
    own = [isinstance(e, Load) and e.buffer == update.buffer for e in operands]
    inside = [_reads(e, update.buffer) for e in operands]
    return op if sum(own) == 1 and own == inside else None


def _reads(expr: Expr, buffer: str) -> bool:
    return any(isinstance(e, Load) and e.buffer == buffer for e in subexpressions(expr))


def identity_of(op: str, dtype: DType) -> Const:
    """What a combiner leaves every value as it is with."""
    if op in ("+", "*"):
        return const(int(op == "*"), dtype)
    if dtype.is_float:
        return const(math.inf if op == "min" else -math.inf, dtype)
    low, high = limits(dtype)
    return const(high if op == "min" else low, dtype)


def split_reduction(kernel: Kernel, var: str, lanes: int, vectors: int) -> Kernel:
    """Reduces into `vectors` x `lanes` partial results, which are combined in halves at the end: a fixed order.

    `lanes` is a power of two, and the loop is a reduction of a constant extent of at least `vectors * lanes`.

    Before: kernel k(in x: float32[11], out y: float32[1]) { for i in 1 { alloc a: float32[] register  a[] = 0.0
              for k in 11 { a[] = a[] + x[k] }  y[i] = a[] } }
    After:  kernel k(in x: float32[11], out y: float32[1]) { for i in 1 { alloc a: float32[] register  a[] = 0.0
              alloc part: float32[2, 2] register
              for kv in 2 { for kl in 2 { part[kv, kl] = 0.0 } }
              for ko in 2 { for kv in 2 { for kl in 2 { part[kv, kl] = part[kv, kl] + x[ko*4 + kv*2 + kl] } } }
              for kv in 1 { for kl in 2 { part[kv, kl] = part[kv, kl] + x[kv*2 + kl + 8] } }
              for kl in 2 { if kl < 1 { part[1, kl] = part[1, kl] + x[kl + 10] } }
              for kv in 1 { for kl in 2 { part[0, kl] = part[0, kl] + part[kv + 1, kl] } }
              alloc fold: float32[2] stack
              for kl in 2 { fold[kl] = part[0, kl] }
              for kf in 1 { fold[kf] = fold[kf] + fold[kf + 1] }
              a[] = a[] + fold[0]  y[i] = a[] } }
    """
    reduction = reduction_over(kernel, var)
    if reduction is None or reduction.extent < lanes * vectors or lanes & (lanes - 1):
        raise IRError(
            f"kernel {kernel.name}: expected a reduction over {var!r} of at least {vectors} vectors of "
            f"2, 4, 8, … lanes, got {lanes} lanes"
        )
    parts = _Parts(reduction, kernel.buffers()[reduction.accumulator].dtype, lanes, vectors)

    def on_stmt(stmt: Stmt) -> Block:
        return parts.loops() if stmt == reduction.loop else (stmt,)

    def on_block(block: Block) -> Block:
        """The partial results are made where the accumulator is, around all loops of the reduction."""
        result: list[Stmt] = []
        for stmt in block:
            inside = isinstance(stmt, For) and any(s is reduction.loop for s in walk((stmt,)))
            if not inside or not isinstance(stmt, For):
                result.append(stmt)
            elif any(
                isinstance(s, Alloc) and s.buffer.name == reduction.accumulator for s in block
            ):
                split = map_block((stmt,), on_stmt=on_stmt)
                result += [*parts.begin(), *split, *parts.end()]
            else:
                result.append(replace(stmt, body=on_block(stmt.body)))
        return tuple(result)

    return replace(kernel, body=on_block(kernel.body))


@dataclass(frozen=True)
class _Parts:
    """The statements around and in place of a reduction's loop."""

    reduction: Reduction
    dtype: DType
    lanes: int
    vectors: int

    def name(self, suffix: str) -> str:
        return f"{self.reduction.loop.var}{suffix}"

    def load(self, vector: Expr | int) -> Load:
        at = Const(vector, INDEX) if isinstance(vector, int) else vector
        return Load("part", (at, Var(self.name("l"))), self.dtype)

    def over_lanes(self, *body: Stmt) -> For:
        return For(self.name("l"), Const(self.lanes, INDEX), body)

    def over_vectors(self, count: int, *body: Stmt) -> Block:
        loop = For(self.name("v"), Const(count, INDEX), (self.over_lanes(*body),))
        return (loop,) if count else ()

    def begin(self) -> Block:
        part = Buffer("part", self.dtype, (self.vectors, self.lanes), space=Space.register)
        identity = identity_of(self.reduction.op, self.dtype)
        target = self.load(Var(self.name("v")))
        return (
            Alloc(part),
            *self.over_vectors(self.vectors, Store("part", target.index, identity)),
        )

    def loops(self) -> Block:
        """Whole tiles of vectors, the whole vectors that they leave over, and the lanes that those leave over."""
        outer, vector, lane = (Var(self.name(s)) for s in ("o", "v", "l"))
        tile = self.vectors * self.lanes
        tiles, rest = divmod(self.reduction.extent, tile)
        whole, left = divmod(rest, self.lanes)
        update = self.reduction.updated
        position = vector * self.lanes + lane
        main = self.over_vectors(self.vectors, update(self.load(vector), outer * tile + position))
        over = self.over_vectors(whole, update(self.load(vector), position + tiles * tile))
        last = update(self.load(whole), lane + (tiles * tile + whole * self.lanes))
        guarded = If(lane < left, (last,))
        ends = (*over, self.over_lanes(guarded)) if left else over
        return (For(outer.name, Const(tiles, INDEX), main), *ends)

    def end(self) -> Block:
        """One vector of all, folded in halves through memory, into the accumulator."""
        combined, vector, lane = (
            self.reduction.combined,
            Var(self.name("v")),
            Var(self.name("l")),
        )
        first, half = self.load(0), Var(self.name("f"))
        total = Load(self.reduction.accumulator, (), self.dtype)
        joined = Store("part", first.index, combined(first, self.load(vector + 1)))
        halves = []
        width = self.lanes // 2
        while width:
            low, high = (Load("fold", (at,), self.dtype) for at in (half, half + width))
            fold = Store("fold", (half,), combined(low, high))
            halves.append(For(half.name, Const(width, INDEX), (fold,)))
            width //= 2
        lowest = Load("fold", (Const(0, INDEX),), self.dtype)
        return (
            *self.over_vectors(self.vectors - 1, joined),
            Alloc(Buffer("fold", self.dtype, (self.lanes,), space=Space.stack)),
            self.over_lanes(Store("fold", (lane,), first)),
            *halves,
            Store(self.reduction.accumulator, (), combined(total, lowest)),
        )


def carry(kernel: Kernel, var: str, within: str = "") -> Kernel:
    """Moves the outer loop of a sum around the output loops: the output holds what its iterations added so far.

    The output loops are what the loop `within` has as its body, or the kernel. Each output element must be stored by
    one iteration of them, as it was summed up. An iteration sums up from zero, for the reason that `sum_apart` gives.
    IRError for what is no sum.

    Before: kernel k(in x: float32[6, 4], out y: float32[4]) { for i in 4 { alloc a: float32[] register  a[] = 0.0
              for m in 6 { for k in 1 { a[] = a[] + x[m, i] } }  y[i] = a[] } }
    After:  kernel k(in x: float32[6, 4], out y: float32[4]) { for i in 4 { y[i] = 0.0 }
              for m in 6 { for i in 4 { alloc a: float32[] register  a[] = 0.0
                for k in 1 { a[] = a[] + x[m, i] }  y[i] = y[i] + a[] } } }
    """

    def carried(block: Block) -> Block:
        nest: list[For] = []
        inner = block
        while len(inner) == 1 and isinstance(inner[0], For):
            nest.append(inner[0])
            inner = inner[0].body
        alloc, first, loop, last = _sum_parts(kernel, inner, var)
        if _summing(loop, kernel.buffers()) is None:
            raise IRError(f"kernel {kernel.name}: expected a sum over {var!r}")
        held = Load(last.buffer, last.index, first.value.dtype)
        start = _nested(nest, (replace(last, value=first.value),))
        added = binary("+", held, last.value)
        again = (
            alloc,
            replace(first, value=const(0, held.dtype)),
            *loop.body,
            replace(last, value=added),
        )
        return (*start, replace(loop, body=_nested(nest, again)))

    if not within:
        return replace(kernel, body=carried(kernel.body))

    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.var == within:
            return (replace(stmt, body=carried(stmt.body)),)
        return (stmt,)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def sum_apart(kernel: Kernel, var: str) -> Kernel:
    """What the reductions inside a loop add is summed up from zero and added as one: each sum is of fewer terms.

    The error of a sum grows with the terms that one accumulator takes (Higham 1993, "The accuracy of floating point
    summation"): parts make it that of the loop's iterations and of one part's terms. The kernel stays as it is where
    the loop isn't one of nested reductions into one accumulator by `+`.

    Before: kernel k(in x: float32[6, 4], out y: float32[1]) { for i in 1 { alloc a: float32[] register  a[] = 0.0
              for m in 6 { for k in 4 { a[] = a[] + x[m, k] } }  y[i] = a[] } }
    After:  kernel k(in x: float32[6, 4], out y: float32[1]) { for i in 1 { alloc a: float32[] register  a[] = 0.0
              for m in 6 { alloc a_m: float32[] register  a_m[] = 0.0
                for k in 4 { a_m[] = a_m[] + x[m, k] }  a[] = a[] + a_m[] }  y[i] = a[] } }
    """
    buffers = kernel.buffers()

    def on_stmt(stmt: Stmt) -> Block:
        update = _summing(stmt, buffers) if isinstance(stmt, For) and stmt.var == var else None
        if not isinstance(stmt, For) or update is None:
            return (stmt,)
        held = buffers[update.buffer]
        part = replace(held, name=fresh(kernel, f"{held.name}_{var}"))

        def renamed(e: Expr) -> Expr:
            own = isinstance(e, Load) and e.buffer == held.name
            return Load(part.name, (), part.dtype) if own else e

        def on_part(inside: Stmt) -> Block:
            if isinstance(inside, Store):
                return (Store(part.name, (), map_expr(renamed, inside.value)),)
            return (inside,)

        total = binary("+", Load(held.name, (), held.dtype), Load(part.name, (), part.dtype))
        body = (
            Alloc(part),
            Store(part.name, (), const(0, part.dtype)),
            *map_block(stmt.body, on_stmt=on_part),
            Store(held.name, (), total),
        )
        return (replace(stmt, body=body),)

    return replace(kernel, body=map_block(kernel.body, on_stmt=on_stmt))


def is_sum(kernel: Kernel, var: str) -> bool:
    """True if a loop adds to one accumulator and does nothing else."""
    buffers = kernel.buffers()
    found = [s for s in walk(kernel.body) if isinstance(s, For) and s.var == var]
    return len(found) == 1 and _summing(found[0], buffers) is not None


def _summing(loop: For, buffers: Mapping[str, Buffer]) -> Store | None:
    """The one statement inside a loop, if it adds to a local accumulator."""
    inner = [s for s in walk(loop.body) if not isinstance(s, For)]
    if len(inner) != 1 or not isinstance(inner[0], Store) or inner[0].index:
        return None
    update = inner[0]
    local = buffers[update.buffer].role is Role.local
    return update if local and _combiner(update) == "+" else None


def _nested(loops: Sequence[For], body: Block) -> Block:
    for loop in reversed(loops):
        body = (replace(loop, body=body),)
    return body


def _sum_parts(kernel: Kernel, block: Block, var: str) -> tuple[Alloc, Store, For, Store]:
    """The accumulator, its start, the loop `var` and the store of a nest's body; IRError if that isn't all there is."""
    match block:
        case (Alloc() as alloc, Store() as first, For() as loop, Store() as last) if (
            loop.var == var
            and first.buffer == alloc.buffer.name
            and last.value == Load(alloc.buffer.name, (), alloc.buffer.dtype)
        ):
            return alloc, first, loop, last
    raise IRError(f"kernel {kernel.name}: expected nothing but a sum over {var!r} and its store")
