"""Sliding windows: where the taps of a convolution or a pooling fall in the input, and which need a guard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.op import Op
from convc.loops.formula import Tensor
from convc.loops.ir import Const, Expr, const, index, maximum, minimum, select
from convc.ops.base import Array, Padding, Pair, expect_at_least, fail
from convc.types import DType, Extent, Shape

TRUE: Const = Const(True, DType.bool)


@dataclass(frozen=True)
class Window:
    """One spatial dimension of a convolution: output i reads inputs `i * stride + r * dilation - before`."""

    size: Extent
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        """The inputs that a window spans."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def extent(self) -> Extent:
        """The number of outputs; ValueError where a symbolic size isn't divisible by the stride."""
        return (self.size + self.before + self.after - self.reach) // self.stride + 1

    def at(self, i: Expr, r: Expr) -> Expr:
        return i * self.stride + r * self.dilation - self.before

    def inside(self, i: Expr, r: Expr) -> Expr:
        """Whether tap r of output i lies in the input: only the bounds that some tap crosses are asked."""
        at = self.at(i, r)
        condition: Expr = const(0, DType.int64) <= at if self.before > 0 else TRUE
        return condition & (at < index(self.size)) if self.crosses_end else condition

    @property
    def is_padded(self) -> bool:
        """Whether some tap lies outside the input."""
        return self.before > 0 or self.crosses_end

    @property
    def crosses_end(self) -> bool:
        beyond = (self.extent - 1) * self.stride + self.reach - self.before - self.size
        return not isinstance(beyond, int) or beyond > 0

    def source(self, h: Expr, r: Expr) -> tuple[Expr, Expr]:
        """The output whose tap r reads input h, and whether there is one."""
        at = h + self.before - r * self.dilation
        inside: Expr = TRUE
        if self.before < self.reach - 1:
            inside = at >= const(0, DType.int64)
        if self.stride > 1:
            inside = inside & (at % self.stride).eq(0)
        return at // self.stride, inside & self.is_output(at // self.stride)

    def cell(self, h: Expr) -> tuple[Expr, Expr, Expr]:
        """The only output that reads input h, through which tap, and whether there is one; for `is_disjoint`."""
        at = h + self.before
        tap, inside = at % self.stride, TRUE
        if self.kernel < self.stride:
            inside = tap < self.kernel  # type: ignore[assignment]
        return at // self.stride, tap, inside & self.is_output(at // self.stride)

    def is_output(self, i: Expr) -> Expr:
        """Whether i, which an input led to, is not beyond the outputs: asked only if some input leads there."""
        last = (self.size + self.before - 1) - (self.extent - 1) * self.stride
        return i < index(self.extent) if not isinstance(last, int) or last >= self.stride else TRUE

    @property
    def is_disjoint(self) -> bool:
        """Whether no input is read twice."""
        return self.stride >= self.kernel and (self.dilation == 1 or self.kernel == 1)

    def count(self, i: Expr) -> Expr:
        """How many taps of output i lie in the input (an index expression)."""
        first = self.at(i, const(0, DType.int64))
        skipped = maximum((self.dilation - 1 - first) // self.dilation, 0)
        end = minimum(
            (index(self.size) - first + (self.dilation - 1)) // self.dilation, self.kernel
        )
        return end - skipped


@dataclass(frozen=True)
class Spread:
    """One spatial dimension of a transposed convolution: input p reaches outputs `p * stride + r * dilation - before`.

    `after` outputs are cropped at the end and `added` ones appended.
    """

    size: Extent
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    added: int

    @property
    def full(self) -> Extent:
        """The outputs before any is cropped or added."""
        return (self.size - 1) * self.stride + self.dilation * (self.kernel - 1) + 1

    @property
    def extent(self) -> Extent:
        """The number of outputs."""
        return self.full - self.before - self.after + self.added

    @property
    def taps(self) -> int:
        """How many taps can reach one output: without dilation every `stride`-th, else all have to be asked."""
        return self.kernel if self.dilation > 1 else -(-self.kernel // self.stride)

    def source(self, i: Expr, u: Expr) -> tuple[Expr, Expr, Expr]:
        """For output i the u-th tap that may reach it: the input position, the tap, and whether there is one."""
        at = i + self.before
        inside: Expr = TRUE
        if self.dilation > 1:
            position, tap = (at - u * self.dilation) // self.stride, u
            reach = self.dilation * (self.kernel - 1)
            if self.stride > 1:
                inside = ((at - u * self.dilation) % self.stride).eq(0)
        else:
            position, tap = at // self.stride - u, at % self.stride + u * self.stride
            reach = (self.taps - 1) * self.stride
            if self.kernel % self.stride:
                # The last tap exists in some phases only; its weight is read all the same.
                inside = tap < index(self.kernel)
                tap = minimum(tap, index(self.kernel - 1))
        if self.before < reach:
            inside = inside & (position >= const(0, DType.int64))
        beyond = self.extent - 1 + self.before - self.size * self.stride
        if not isinstance(beyond, int) or beyond >= 0:
            inside = inside & (position < index(self.size))
        return position, tap, inside


def windows(
    op: Op,
    size: Shape,
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> tuple[Window, Window]:
    """The windows of rows and columns; an OpError where an attribute or an output extent is out of range."""
    expect_at_least(op, "kernel", kernel, 1)
    expect_at_least(op, "stride", stride, 1)
    expect_at_least(op, "dilation", dilation, 1)
    expect_at_least(op, "padding", (*padding[0], *padding[1]), 0)
    rows, columns = (
        Window(size[d], kernel[d], stride[d], dilation[d], *padding[d]) for d in range(2)
    )
    for name, window in (("height", rows), ("width", columns)):
        check_extent(op, name, window)
    return rows, columns


def check_extent(op: Op, name: str, window: Window) -> None:
    try:
        extent = window.extent
    except ValueError:
        raise fail(
            op, f"{name} {window.size} expects stride 1, got stride {window.stride}"
        ) from None
    if isinstance(extent, int) and extent <= 0:
        padded = window.size + window.before + window.after
        raise fail(
            op, f"{name} expects at least {window.reach} padded input elements, got {padded}"
        )


def tap(
    x: Tensor, rows: Window, columns: Window, at: tuple[Expr, Expr, Expr, Expr],
    r: Expr, s: Expr, value: float,
) -> Expr:  # fmt: skip
    """x at tap (r, s) of output `at` = (n, c, i, j), or `value` where that lies in the padding."""
    n, c, i, j = at
    inside = rows.inside(i, r) & columns.inside(j, s)
    return select(inside, x(n, c, rows.at(i, r), columns.at(j, s)), const(value, x.dtype))


def lowest(dtype: DType) -> float:
    """The identity of max: minus infinity or the least integer."""
    if dtype.is_float:
        return -np.inf
    return 0 if dtype is DType.bool else int(np.iinfo(dtype.numpy).min)


def patches(
    x: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, value: float
) -> dict[tuple[int, int], Array]:
    """For each tap (r, s), the array [n, c, oh, ow] of the input elements that it meets (a reference's view)."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=x.dtype.type(value))
    reach = [dilation[d] * (kernel[d] - 1) + 1 for d in range(2)]
    oh, ow = ((padded.shape[2 + d] - reach[d]) // stride[d] + 1 for d in range(2))
    found = {}
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            top, left = r * dilation[0], s * dilation[1]
            rows = slice(top, top + stride[0] * (oh - 1) + 1, stride[0])
            columns = slice(left, left + stride[1] * (ow - 1) + 1, stride[1])
            found[r, s] = padded[:, :, rows, columns]
    return found
