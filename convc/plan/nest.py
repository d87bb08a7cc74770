"""What a step's share follows from: a kernel's parallel loops, what memory they run over, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convc.errors import IRError
from convc.loops.cost import extent_of
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
    Select,
    Space,
    Store,
    Var,
    blocks,
)
from convc.loops.tasks import parallel_loops
from convc.loops.walking import children, expressions, subexpressions
from convc.program.ir import Cut
from convc.types import Dim, Extent, evaluate, size_of

# Of a core at 4 GHz that does two vector operations per cycle, and reads its caches at 80 GB/s. Measured steps of
# ResNet-50 and MobileNetV2 take 0.9 times what these predict in the median, half of them between 0.6 and 1.
_NANOSECONDS_PER_OPERATION = 0.12
_NANOSECONDS_PER_BYTE = 0.012

MANY = 16
"""What symbols are taken for where not all of them are one."""


@dataclass
class Nest:
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
    _counts: dict[int, int] = field(default_factory=dict)  # of operations, by id of a statement

    def __post_init__(self) -> None:
        buffers = self.kernel.buffers().values()
        self._registers = frozenset(b.name for b in buffers if b.space is Space.register)
        self.loops = parallel_loops(self.kernel)
        self.extents = [extent_of(loop.extent) for loop in self.loops]
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
            for inner in blocks(stmt):
                self._note(inner)

    def cut(self, at: int) -> Cut:
        """The tasks cut at a loop."""
        return Cut(size_of(self.extents[:at]), size_of(self.extents[at:]))

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
        for axis, stride in zip(layout.axes, buffer.strides, strict=True):
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
            operations = self._operations(self.kernel.body, symbols)
            self._times[own] = (
                operations * _NANOSECONDS_PER_OPERATION + size * _NANOSECONDS_PER_BYTE
            )
        return self._times[own]

    def _operations(self, block: Block, symbols: Mapping[str, int]) -> float:
        """Arithmetic operations and stores to memory; vectors count once, of a condition's branches the longer one."""
        total = 0.0
        for stmt in block:
            match stmt:
                case For():
                    vector = stmt.kind is LoopKind.vectorized
                    times = None if vector else _times(stmt.extent, symbols)
                    inside = self._operations(stmt.body, symbols)
                    total += inside if times is None else times * inside
                case If():
                    then = self._operations(stmt.then, symbols) / _period(stmt.condition)
                    total += max(then, self._operations(stmt.otherwise, symbols))
                case Store() | Let():
                    total += self._operations_of(stmt)
                case _:
                    pass
        return total

    def _operations_of(self, stmt: Store | Let) -> int:
        if id(stmt) not in self._counts:
            count = sum(map(_arithmetic, expressions(stmt)))
            stored = isinstance(stmt, Store) and stmt.buffer not in self._registers
            self._counts[id(stmt)] = count + stored
        return self._counts[id(stmt)]

    def time(self) -> Extent:
        """The same as a line in the product of symbols, through two points: each of them one, and each many."""
        symbols = self.kernel.symbols
        one = round(self.nanoseconds(dict.fromkeys(symbols, 1)))
        if not symbols:
            return one
        many = self.nanoseconds(dict.fromkeys(symbols, MANY))
        each: int = max(1, round((many - one) / (MANY ** len(symbols) - 1)))
        return size_of(map(Dim.symbol, symbols)) * each + max(0, one - each)


_INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b if b else 0,
    "%": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
}


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
