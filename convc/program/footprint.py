"""Which bytes of memory a kernel's parameter covers, and which a kernel writes: exact, for given symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.ir import (
    Binary,
    Block,
    Buffer,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Select,
    Store,
    Var,
    walk,
)
from convc.loops.memory import dimension_offsets
from convc.loops.printer import print_head
from convc.types import evaluate

Offsets = NDArray[np.int64]
Values = Any  # arrays with one axis per loop around, broadcast against one another


def box(buffer: Buffer, symbols: Mapping[str, int]) -> Offsets:
    """The element offsets of every logical element and of the border, flat."""
    shape = [evaluate(e, symbols) for e in buffer.shape]
    ranges = [
        np.arange(-before, extent + after)
        for (before, after), extent in zip(buffer.layout.border, shape, strict=True)
    ]
    return places(buffer, symbols, list(np.meshgrid(*ranges, indexing="ij", sparse=True)))


def span(buffer: Buffer, symbols: Mapping[str, int]) -> int:
    """Elements from the buffer's first to its last one, both counted; 0 if it has none."""
    last = 0
    for dim, (before, after) in enumerate(buffer.layout.border):
        extent = evaluate(buffer.shape[dim], symbols)
        if extent + before + after <= 0:
            return 0
        index = np.arange(-before, extent + after)
        last += int(dimension_offsets(buffer, symbols, dim, index).max())
    return last + 1


def places(buffer: Buffer, symbols: Mapping[str, int], index: list[Values]) -> Offsets:
    """The element offsets of logical indices, flat."""
    return _sum_of_places(buffer, symbols, index).reshape(-1)


def _sum_of_places(buffer: Buffer, symbols: Mapping[str, int], index: list[Values]) -> Offsets:
    """The element offsets of logical indices, broadcast against one another."""
    total: Values = np.int64(0)
    for dim, i in enumerate(index):
        total = total + dimension_offsets(buffer, symbols, dim, np.asarray(i))
    return np.asarray(total, np.int64)


def written_offsets(kernel: Kernel, name: str, symbols: Mapping[str, int]) -> Offsets:
    """The element offsets of a parameter that a kernel writes for certain, flat, some perhaps repeated.

    IRError if a store leaves the parameter's box. Stores of which data decide where or whether are not among them.
    """
    return _Writes(kernel, name, symbols).run()


class _Writes:
    """Walks the loops around stores to one parameter; each loop adds an axis to the values of all variables."""

    def __init__(self, kernel: Kernel, name: str, symbols: Mapping[str, int]) -> None:
        self.kernel = kernel
        self.buffer = kernel.buffers()[name]
        self.symbols = symbols
        self.found: list[Offsets] = []

    def run(self) -> Offsets:
        names: dict[str, Values] = {s: np.int64(v) for s, v in self.symbols.items()}
        self.block(self.kernel.body, names, np.True_, 0)
        return np.concatenate(self.found) if self.found else np.zeros(0, np.int64)

    def block(self, block: Block, names: dict[str, Values], runs: Values, depth: int) -> None:
        names = dict(names)
        for stmt in block:
            match stmt:
                case Let():
                    if _is_index(stmt.value, names):
                        names[stmt.name] = value(stmt.value, names)
                case For() if self.writes(stmt):
                    self.loop(stmt, names, runs, depth)
                case If() if self.writes(stmt):
                    holds = known(stmt.condition, names)
                    if holds is None:
                        self.either(stmt, names, runs, depth)
                        continue
                    self.block(stmt.then, names, runs & holds, depth)
                    self.block(stmt.otherwise, names, runs & ~holds, depth)
                case Store() if stmt.buffer == self.buffer.name:
                    self.store(stmt, names, runs, depth)
                case Intrinsic() if self.writes(stmt):
                    raise IRError(
                        f"kernel {self.kernel.name}: what {print_head(stmt)} writes isn't known"
                    )
                case _:
                    pass

    def either(self, stmt: If, names: dict[str, Values], runs: Values, depth: int) -> None:
        """What both branches write, where data decide which of them runs."""
        before = self.found
        parts: list[Offsets] = []
        for branch in (stmt.then, stmt.otherwise):
            self.found = []
            self.block(branch, names, runs, depth)
            parts.append(np.concatenate(self.found) if self.found else np.zeros(0, np.int64))
        then, otherwise = parts
        same = np.array_equal(then, otherwise)
        self.found = [*before, then if same else np.intersect1d(then, otherwise)]

    def writes(self, stmt: For | If | Intrinsic) -> bool:
        return any(
            isinstance(s, Store)
            and s.buffer == self.buffer.name
            or isinstance(s, Intrinsic)
            and any(w.buffer == self.buffer.name for w in s.args)
            and s.name != "prefetch"
            for s in walk((stmt,))
        )

    def loop(self, stmt: For, names: dict[str, Values], runs: Values, depth: int) -> None:
        extents = known(stmt.extent, names)
        if extents is None:
            return
        extent = np.asarray(extents)
        deeper = {n: _with_axis(v, depth) for n, v in names.items()}
        most = int(extent.max(initial=0))
        deeper[stmt.var] = np.arange(most).reshape((1,) * depth + (most,))
        inside = _with_axis(runs, depth) & (deeper[stmt.var] < _with_axis(extent, depth))
        self.block(stmt.body, deeper, inside, depth + 1)

    def store(self, stmt: Store, names: dict[str, Values], runs: Values, depth: int) -> None:
        index: list[Values] = [known(i, names) for i in stmt.index]
        if any(i is None for i in index):
            return
        shape = np.broadcast_shapes(np.shape(runs), *(np.shape(i) for i in index))
        if prod(shape) == 0:
            return
        chosen = np.broadcast_to(runs, shape)
        if not chosen.any():
            return
        for dim, i in enumerate(index):
            self.check(stmt, dim, np.asarray(i), chosen)
        offsets = np.broadcast_to(_sum_of_places(self.buffer, self.symbols, index), shape)
        self.found.append(offsets.reshape(-1) if chosen.all() else offsets[chosen])

    def check(self, stmt: Store, dim: int, index: Values, chosen: NDArray[np.bool_]) -> None:
        """Refuses an index that leaves the buffer in an iteration that runs."""
        if index.ndim:
            alone = tuple(a for a, n in enumerate(index.shape) if n == 1)
            index = index[chosen.any(axis=alone, keepdims=True)]
        before, after = self.buffer.layout.border[dim]
        extent = evaluate(self.buffer.shape[dim], self.symbols)
        if index.min() < -before or index.max() >= extent + after:
            raise IRError(
                f"kernel {self.kernel.name}: index {dim} goes from {index.min()} to {index.max()}, "
                f"outside {self.buffer.name}[{-before}:{extent + after}] in: {print_head(stmt)}"
            )


def _with_axis(values: Values, depth: int) -> Values:
    """The values with a further axis; a plain number stays one."""
    return values[..., None] if np.ndim(values) else values


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "//": np.floor_divide,
    "%": np.mod,
    "min": np.minimum,
    "max": np.maximum,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def _is_index(expr: Expr, names: Mapping[str, Values]) -> bool:
    """Whether an expression is arithmetic on variables whose values are known."""
    match expr:
        case Const():
            return not expr.dtype.is_float
        case Var():
            return expr.name in names
        case Binary():
            return expr.op in _OPERATIONS and _is_index(expr.a, names) and _is_index(expr.b, names)
        case Select():
            parts = (expr.condition, expr.then, expr.otherwise)
            return all(_is_index(e, names) for e in parts)
        case _:
            return False


def known(expr: Expr, names: Mapping[str, Values]) -> Values | None:
    """An expression's values in all iterations at once, or None if it depends on data."""
    try:
        return value(expr, names)
    except DataDecideError:
        return None


class DataDecideError(IRError):
    """Only a run knows where a store goes."""


def value(expr: Expr, names: Mapping[str, Values]) -> Values:
    """An index expression's values in all iterations at once; IRError if it depends on data."""
    match expr:
        case Const():
            return np.bool_(expr.value) if isinstance(expr.value, bool) else np.int64(expr.value)
        case Var() if expr.name in names:
            return names[expr.name]
        case Binary() if expr.op in _OPERATIONS:
            return _OPERATIONS[expr.op](value(expr.a, names), value(expr.b, names))
        case Select():
            parts = (expr.condition, expr.then, expr.otherwise)
            return np.where(*(value(e, names) for e in parts))
        case Cast() if not expr.dtype.is_float:
            return np.asarray(value(expr.value, names)).astype(expr.dtype.numpy)
        case Load() | _:
            raise DataDecideError(f"where a store goes depends on data: {expr}")
