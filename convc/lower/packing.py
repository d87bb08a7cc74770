"""The order in which a contraction wants to read what it reads again and again: a weight that isn't constant.

Constant weights are packed when they are compiled. Of others a step makes a copy first, where they lie the wrong way
round: a dense layer's or a convolution's weight in the gradient of its input, or rows too far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convc.loops.ir import (
    Axis,
    Buffer,
    Call,
    Const,
    Expr,
    Kernel,
    Layout,
    Load,
    Role,
    Space,
    Store,
    Var,
    walk,
)
from convc.loops.walking import subexpressions, variables
from convc.types import Shape

# Columns that stand together, by preference: whole vectors of every target, few enough for a register tile.
_BLOCKS = (32, 48, 16)

# Rows of more bytes than this are too far apart: each is a page or a cache set of its own.
_FAR = 256

# Pixels for which it pays to bring rows closer together.
_MANY = 16


@dataclass(frozen=True)
class Packing:
    """What a kernel wants: the buffer in blocks of columns, `layout`; or at least side by side, along `column`."""

    buffer: str
    column: int
    layout: Layout
    pixels: int  # constant rows of the output for each of which all is read again, of each image of a batch

    def suits(self, layout: Layout, buffer: Buffer) -> bool:
        """True if a copy of what is laid out so wouldn't pay."""
        if self.is_packed(layout, buffer):
            return True
        if layout.axes[-1].dim != self.column or any(a.divide != 1 for a in layout.axes):
            return False
        extent = buffer.shape[self.column]
        assert isinstance(extent, int)
        return self.pixels < _MANY or extent * buffer.dtype.itemsize <= _FAR

    def is_packed(self, layout: Layout, buffer: Buffer) -> bool:
        """True if elements lie as in `layout`: where dimensions of one element stand says nothing."""
        found, wanted = (
            [axis for axis in x.axes if buffer.shape[axis.dim] != 1] for x in (layout, self.layout)
        )
        return found == wanted and all(b == (0, 0) for b in layout.border)


def wanted_packing(kernel: Kernel, output: Layout) -> Packing | None:
    """The packing that a plain kernel wants, if it is a sum of products with a factor of constant extents.

    `output` is the layout that its result has: the columns are what is side by side there.
    """
    factors = _factors(kernel)
    store = next((s for s in walk(kernel.body) if isinstance(s, Store) and s.index), None)
    if factors is None or store is None or not store.index:
        return None
    y = kernel.params[-1]
    dim = next((a.dim for a in reversed(output.axes) if y.shape[a.dim] != 1), None)
    column = None if dim is None else store.index[dim]
    if not isinstance(column, Var):
        return None
    for moving, still in (factors, factors[::-1]):
        if isinstance(moving, Load) and column.name not in variables(still):
            found = _packing(kernel, moving, still, column, store)
            if found is not None:
                return found
    return None


def _factors(kernel: Kernel) -> tuple[Expr, Expr] | None:
    """The two factors, if the kernel's one reduction sums products of what is read."""
    updates = [
        s.value
        for s in walk(kernel.body)
        if isinstance(s, Store) and not s.index and not isinstance(s.value, Const)
    ]
    match updates:
        case [Call(function="fma", args=(a, b, _))]:
            return a, b
    return None


def _packing(
    kernel: Kernel, moving: Load, still: Expr, column: Var, store: Store
) -> Packing | None:
    buffer = next((b for b in kernel.params if b.name == moving.buffer), None)
    if buffer is None or buffer.role is not Role.in_ or buffer.space is not Space.global_:
        return None
    at = [d for d, i in enumerate(moving.index) if column.name in variables(i)]
    if len(at) != 1 or moving.index[at[0]] != column:
        return None
    if any(not isinstance(e, int) for e in buffer.shape):
        return None
    used = {name for i in moving.index for name in variables(i)}
    rows = [
        kernel.params[-1].shape[d]
        for d, i in enumerate(store.index)
        if isinstance(i, Var) and i.name not in used
    ]
    pixels = prod(e for e in rows if isinstance(e, int))
    if all(isinstance(e, int) for e in rows):
        if pixels < _MANY:
            return None  # read too few times
        pixels = 0  # no batch for which it is read again: side by side is enough
    return Packing(buffer.name, at[0], _layout(buffer, moving, still, at[0]), pixels)


def _layout(buffer: Buffer, moving: Load, still: Expr, column: int) -> Layout:
    """Blocks of columns, in them the reduction as the other factor runs through it: its channels innermost."""
    whole = {
        i
        for e in subexpressions(still)
        if isinstance(e, Load)
        for i in e.index
        if isinstance(i, Var)
    }
    rest = [d for d in range(len(buffer.shape)) if d != column]
    rest.sort(key=lambda d: moving.index[d] in whole)
    return in_blocks(buffer.shape, rest, column)


def in_blocks(shape: Shape, rest: Sequence[int], column: int) -> Layout:
    """Blocks of columns, in them the other dimensions in an order: as a contraction reads a weight."""
    extent = shape[column]
    assert isinstance(extent, int)
    block = next((b for b in _BLOCKS if extent % b == 0), extent)
    if block == extent:
        return Layout.permuted((*rest, column))
    axes = (Axis(column, block), *(Axis(d) for d in rest), Axis(column, 1, block))
    return Layout(axes, ((0, 0),) * len(shape))
