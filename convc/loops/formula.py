"""What operators' formulas are written in: tensors as functions from indices to one element's expression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convc.frozen import frozen
from convc.loops.ir import (
    INDEX,
    Block,
    Buffer,
    Expr,
    Load,
    Operand,
    Stmt,
    Store,
    Var,
    as_expr,
    const,
    index,
    select,
)
from convc.types import DType, Extent, Shape

At = Callable[..., Expr]


@frozen
class Tensor:
    """An operand of a formula: `x(n, c, i, j)` is the element at that logical index."""

    dtype: DType
    shape: Shape
    at: At

    def __call__(self, *indices: Operand) -> Expr:
        return self.at(*(as_expr(i, INDEX) for i in indices))

    @property
    def rank(self) -> int:
        return len(self.shape)

    def padded(self, *indices: Operand, value: float = 0) -> Expr:
        """The element, or `value` where an index falls outside the tensor (operators' padding)."""
        at = tuple(as_expr(i, INDEX) for i in indices)
        inside: Expr = const(True, DType.bool)
        for i, extent in zip(at, self.shape, strict=True):
            if not always_inside(i, extent):
                inside = inside & (as_expr(0, INDEX) <= i) & (i < index(extent))
        return select(inside, self.at(*at), const(value, self.dtype))


def always_inside(i: Expr, extent: Extent) -> bool:
    """Plain variables run over their own dimension by construction and need no guard."""
    from_loop = isinstance(i, Var)
    return from_loop or i == index(0) and extent != 0


def tensor_of(buffer: Buffer) -> Tensor:
    """A buffer as an operand: its elements are loads."""
    return Tensor(
        buffer.dtype,
        buffer.shape,
        lambda *indices: Load(buffer.name, tuple(indices), buffer.dtype),
    )


@dataclass(frozen=True)
class Memory:
    """A buffer that an operator's `procedure` reads and writes: `m(i, j)` is the element there now."""

    buffer: Buffer

    def __call__(self, *indices: Operand) -> Expr:
        return Load(self.buffer.name, self._at(indices), self.buffer.dtype)

    def put(self, value: Operand, *indices: Operand) -> Stmt:
        """The statement that stores an element."""
        return Store(self.buffer.name, self._at(indices), as_expr(value, self.buffer.dtype))

    @staticmethod
    def _at(indices: tuple[Operand, ...]) -> tuple[Expr, ...]:
        return tuple(as_expr(i, INDEX) for i in indices)


@dataclass(frozen=True)
class Nest:
    """Loops that an operator writes itself, around statements that store its output: its `loops` facet's result."""

    loops: tuple[tuple[str, Extent], ...]
    body: Block


Put = Callable[[tuple[Expr, ...], Expr], Stmt]
"""`put(index, value)` is the statement that stores an output element, pointwise consumers included."""
