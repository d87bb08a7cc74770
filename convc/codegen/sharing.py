"""How an entry's kernels are shared among threads: along which loop they are cut, and how long they take.

A core reads what another has just written at a quarter to a half of the speed of its own caches (measured between two
cores with a cache of 1 MiB each: 42 GB/s against 110 to 260). So the steps of an entry are cut such that a thread finds
what it wrote itself: as a rule along the rows of images, all threads reading all weights, and along the channels where
the weights are more than the images. A thread's share is the same stretch of the loops from the cut on, for every
iteration of the parallel loops around it; the order of a kernel's loops doesn't change, and neither do its results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Binary,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    LoopKind,
    Role,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    children,
    expressions,
    subexpressions,
)
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Step
from convc.types import Dim, Extent, evaluate

# Of a core at 4 GHz that does two vector operations per cycle, and reads its caches at 80 GB/s. Measured steps of
# ResNet-50 and MobileNetV2 take 0.9 times what these predict in the median, half of them between 0.6 and 1.
_NANOSECONDS_PER_OPERATION = 0.12
_NANOSECONDS_PER_BYTE = 0.012

# What reading from another core's caches takes longer than from one's own.
_NANOSECONDS_PER_FOREIGN_BYTE = 0.02

LEAST_NANOSECONDS = 6_000
"""A step that takes less is over on the caller's thread before sharing it has paid: support.py has it too."""

# What symbols are taken for where not all of them are one.
_MANY = 16


@dataclass(frozen=True)
class Cut:
    """Tasks as `rows` of `length`: every thread has the same stretch of each row."""

    rows: Extent
    length: Extent


@dataclass(frozen=True)
class Time:
    """Predicted nanoseconds of one thread: `once`, as for reading weights, and `each` times the product of symbols."""

    once: int
    each: int

    def __add__(self, other: Time) -> Time:
        return Time(self.once + other.once, self.each + other.each)


@dataclass(frozen=True)
class Sharing:
    """How a step is shared: where every symbol is one, and otherwise; and how long one thread takes for it."""

    single: Cut
    many: Cut
    time: Time


def sharings(program: Program, entry: Entry) -> list[Sharing]:
    """How each step of an entry is shared."""
    nests = {name: _Nest(kernel) for name, kernel in program.kernels.items()}
    symbols = {s for k in program.kernels.values() for s in k.symbols} | set(program.symbols)
    single, many = (
        list(_Cuts(program, nests, dict.fromkeys(symbols, value)).of(entry)) for value in (1, _MANY)
    )
    times = {name: nest.time() for name, nest in nests.items()}
    return [
        Sharing(nests[step.kernel].cut(a), nests[step.kernel].cut(b), times[step.kernel])
        for step, a, b in zip(entry.steps, single, many, strict=True)
    ]


@dataclass(frozen=True)
class Work:
    """Steps that are worth sharing where the product of `symbols` is at least `least`, a power of two.

    One thread takes `time` for them, for that product, and this as many times as the symbol `turns` says where they are
    in a loop over its values.
    """

    symbols: tuple[str, ...]
    turns: str
    least: int
    time: Time


def shared_work(program: Program, entry: Entry, sharings: list[Sharing]) -> list[Work]:
    """An entry's steps that threads may share, in the few groups that are worth it from about the same batch on."""
    totals: dict[tuple[tuple[str, ...], str, int], Time] = {}
    for step, sharing in zip(entry.steps, sharings, strict=True):
        if (sharing.many.rows, sharing.many.length) == (1, 1):
            continue
        symbols = tuple(sorted(set(program.kernels[step.kernel].symbols) - {step.each}))
        time = sharing.time
        missing = LEAST_NANOSECONDS - time.once - time.each
        least = 1 << max(0, -(-missing // max(1, time.each))).bit_length()
        if missing <= 0 or symbols and time.each:
            key = (symbols, step.each, least)
            totals[key] = totals.get(key, Time(0, 0)) + time
    return [Work(*key, total) for key, total in totals.items()]


class _Cuts:
    """Chooses the loop at which each step is cut, one step after the other.

    `spans` has for each region over how many bytes of it the cut loop of its last writer ran.
    """

    def __init__(
        self, program: Program, nests: Mapping[str, _Nest], symbols: Mapping[str, int]
    ) -> None:
        self.nests, self.symbols = nests, symbols
        self.regions = {r.name: r for r in program.regions}
        self.spans: dict[str, float] = {}

    def of(self, entry: Entry) -> Iterator[int]:
        """For each step the position of its cut among the kernel's parallel loops."""
        for step in entry.steps:
            nest = self.nests[step.kernel]
            costs = [self.cost(nest, step, at) for at in range(len(nest.loops))]
            chosen = min(range(len(costs)), key=costs.__getitem__, default=0)
            for buffer, argument in self.written(nest, step):
                moved = nest.span(buffer, chosen, self.symbols) if costs else 0.0
                self.spans[argument.region] = moved
            yield chosen

    def written(self, nest: _Nest, step: Step) -> Iterator[tuple[Buffer, Argument]]:
        for buffer, argument in zip(nest.kernel.params, step.args, strict=True):
            if buffer.role is not Role.in_:
                yield buffer, argument

    def cost(self, nest: _Nest, step: Step, at: int) -> float:
        """Nanoseconds that two threads lose when a step is cut at a loop: foreign bytes, weights twice, odd shares."""
        extents = [evaluate(e, self.symbols) for e in nest.extents]
        length = prod(extents[at:])
        if extents[at] == 1 or length < 2:
            return 1e12 - at
        total = (-(-length // 2) * 2 / length - 1) / 2 * nest.nanoseconds(self.symbols)
        for buffer, argument in zip(nest.kernel.params, step.args, strict=True):
            region = self.regions[argument.region]
            size = min(
                evaluate(buffer.size, self.symbols) * buffer.dtype.itemsize,
                evaluate(region.size, self.symbols),
            )
            span = nest.span(buffer, at, self.symbols)
            total += self.foreign(buffer, region, size, span) * _NANOSECONDS_PER_FOREIGN_BYTE
        return total

    def foreign(self, buffer: Buffer, region: Region, size: int, span: float) -> float:
        """Bytes of a parameter that each of two threads reads from the other's caches, or in its place."""
        if buffer.role is not Role.in_:
            # Who reads it next cuts it in halves, most likely.
            return 0.0 if 2 * span > size else size / 4
        if region.kind is RegionKind.weight:
            return size / 2 if span == 0 else 0.0
        if span == 0:
            return size / 2
        before = self.spans.get(region.name, 0.0)
        return 0.0 if before and 0.6 < span / before < 1.7 else size / 4


@dataclass
class _Nest:
    """A kernel, and the parallel loops at its top."""

    kernel: Kernel
    loops: list[For] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)
    _places: dict[str, tuple[Expr, ...]] = field(default_factory=dict)
    _lets: dict[str, Expr] = field(default_factory=dict)
    _inside: dict[str, Expr] = field(default_factory=dict)
    _registers: frozenset[str] = frozenset()
    _times: dict[tuple[int, ...], float] = field(default_factory=dict)
    _spans: dict[tuple[object, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        buffers = self.kernel.buffers().values()
        self._registers = frozenset(b.name for b in buffers if b.space is Space.register)
        block = self.kernel.body
        while len(block) == 1 and isinstance(block[0], For) and block[0].kind is LoopKind.parallel:
            self.loops.append(block[0])
            self.extents.append(extent_of(block[0]))
            block = block[0].body
        self._note(self.kernel.body)

    def _note(self, block: Block) -> None:
        """Where each parameter is accessed first, and the loops and lets that say where that is."""
        for stmt in block:
            if isinstance(stmt, For):
                self._inside.setdefault(stmt.var, stmt.extent)
            elif isinstance(stmt, Let):
                self._lets.setdefault(stmt.name, stmt.value)
            elif isinstance(stmt, Store):
                self._places.setdefault(stmt.buffer, stmt.index)
            for expr in expressions(stmt):
                for e in subexpressions(expr):
                    if isinstance(e, Load):
                        self._places.setdefault(e.buffer, e.index)
            for inner in _blocks(stmt):
                self._note(inner)

    def cut(self, at: int) -> Cut:
        """The tasks cut at a loop."""
        return Cut(_product(self.extents[:at]), _product(self.extents[at:]))

    def span(self, buffer: Buffer, at: int, symbols: Mapping[str, int]) -> float:
        """Bytes of a parameter's memory that a parallel loop runs over; 0 if it stays where it is.

        Where that can't be said without running the kernel, it stays.
        """
        key = (buffer.name, at, *(symbols[s] for s in self.kernel.symbols))
        if key not in self._spans:
            self._spans[key] = self._span(buffer, at, symbols)
        return self._spans[key]

    def _span(self, buffer: Buffer, at: int, symbols: Mapping[str, int]) -> float:
        loop = self.loops[at]
        steps = evaluate(self.extents[at], symbols)
        place = self._places.get(buffer.name)
        if place is None or steps < 2:
            return 0.0
        try:
            first, last = (
                self._offset(buffer, place, {**symbols, loop.var: value})
                for value in (0, steps - 1)
            )
        except IRError:
            return 0.0
        return abs(last - first) * steps / (steps - 1) * buffer.dtype.itemsize

    def _offset(self, buffer: Buffer, place: tuple[Expr, ...], values: Mapping[str, int]) -> int:
        total = 0
        layout = buffer.layout
        at = [self._value(i, values) for i in place]
        for axis, stride in zip(layout.axes, layout.strides(buffer.shape), strict=True):
            position = (at[axis.dim] + layout.border[axis.dim][0]) // axis.divide
            if axis.modulus is not None:
                position %= axis.modulus
            total += position * evaluate(stride, values)
        return total

    def _value(self, expr: Expr, values: Mapping[str, int]) -> int:
        """An index, every loop whose variable isn't given at its begin. IRError if it depends on data."""
        match expr:
            case Const():
                return int(expr.value)
            case Var(name=name) if name in values:
                return values[name]
            case Var(name=name) if name in self._inside:
                return 0
            case Var(name=name) if name in self._lets:
                return self._value(self._lets[name], values)
            case Binary(op=op) if op in _INTEGERS:
                a, b = self._value(expr.a, values), self._value(expr.b, values)
                return int(_INTEGERS[op](a, b))
            case Select():
                return self._value(expr.then, values)
            case _:
                raise IRError(f"{expr} is no index that loops alone say")

    def nanoseconds(self, symbols: Mapping[str, int]) -> float:
        """A guess at the kernel's time on one thread: its operations, vectors counted once, and its bytes."""
        own = tuple(symbols[s] for s in self.kernel.symbols)
        if own not in self._times:
            size = sum(evaluate(b.size, symbols) * b.dtype.itemsize for b in self.kernel.params)
            operations = _operations(self.kernel.body, symbols, self._registers)
            self._times[own] = (
                operations * _NANOSECONDS_PER_OPERATION + size * _NANOSECONDS_PER_BYTE
            )
        return self._times[own]

    def time(self) -> Time:
        """The same as a line through two points: every symbol one, and every symbol many."""
        symbols = self.kernel.symbols
        one = self.nanoseconds(dict.fromkeys(symbols, 1))
        if not symbols:
            return Time(round(one), 0)
        many = self.nanoseconds(dict.fromkeys(symbols, _MANY))
        each = max(1, round((many - one) / (_MANY ** len(symbols) - 1)))
        return Time(max(0, round(one) - each), each)


_INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b if b else 0,
    "%": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
}


def _blocks(stmt: Stmt) -> tuple[Block, ...]:
    match stmt:
        case For():
            return (stmt.body,)
        case If():
            return (stmt.then, stmt.otherwise)
        case _:
            return ()


def _operations(block: Block, symbols: Mapping[str, int], registers: frozenset[str]) -> float:
    """Arithmetic operations and stores to memory; vectors count once, and of a condition's branches the longer one."""
    total = 0.0
    for stmt in block:
        match stmt:
            case For():
                times = None if stmt.kind is LoopKind.vectorized else _times(stmt.extent, symbols)
                inside = _operations(stmt.body, symbols, registers)
                total += inside if times is None else times * inside
            case If():
                then = _operations(stmt.then, symbols, registers) / _period(stmt.condition)
                total += max(then, _operations(stmt.otherwise, symbols, registers))
            case Store() | Let():
                total += sum(map(_arithmetic, expressions(stmt)))
                total += isinstance(stmt, Store) and stmt.buffer not in registers
            case _:
                pass
    return total


def _period(condition: Expr) -> int:
    """How many iterations there are for each in which a condition holds: the constant of `n % constant == 0`, or 1."""
    match condition:
        case Binary(op="==", a=Binary(op="%", b=Const(value=value)), b=Const(value=0)):
            return max(1, int(value))
        case _:
            return 1


def _arithmetic(expr: Expr) -> int:
    """The operations of an expression that aren't an index's."""
    if expr.dtype is INDEX:
        return 0
    inside = sum(map(_arithmetic, children(expr)))
    return inside + 1 if isinstance(expr, Call | Binary) else inside


def _times(extent: Expr, symbols: Mapping[str, int]) -> float | None:
    """A loop's iterations; None where they depend on loops around it, if nothing known bounds them."""
    match extent:
        case Const():
            return float(extent.value)
        case Var():
            return symbols.get(extent.name)
        case Binary(op=op) if op in _INTEGERS:
            a, b = _times(extent.a, symbols), _times(extent.b, symbols)
            if a is None or b is None:
                return (b if a is None else a) if op == "min" else None
            return max(0.0, float(_INTEGERS[op](a, b)))
        case _:
            return None


def task_count(kernel: Kernel) -> Extent:
    """The tasks of a kernel: the product of the parallel loops at its top."""
    return _product(_Nest(kernel).extents)


def _product(extents: list[Extent]) -> Extent:
    total: Extent = 1
    for extent in extents:
        total = total * extent
    return total


def extent_of(loop: For) -> Extent:
    """A loop's extent as a polynomial; IRError if it isn't one."""
    return _polynomial(loop.extent)


def _polynomial(expr: Expr) -> Extent:
    match expr:
        case Const():
            return int(expr.value)
        case Var():
            return Dim.symbol(expr.name)
        case Binary(op="*"):
            return _polynomial(expr.a) * _polynomial(expr.b)
        case Binary(op="+"):
            return _polynomial(expr.a) + _polynomial(expr.b)
        case _:
            raise IRError(f"a loop extent that is no polynomial: {expr}")
