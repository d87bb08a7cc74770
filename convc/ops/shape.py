"""Operators that move elements without computing: reordering, joining, cutting, padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.graph.view import Joined, Part, Permuted, Reshaped, View
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, const, index, maximum, minimum, select
from convc.ops.base import (
    ZERO,
    Array,
    Gradients,
    Names,
    Types,
    axis_of,
    broadcast_at,
    broadcast_shapes,
    expect_rank,
    fail,
    numbers,
    text,
)
from convc.ops.placing import folded_back, placed, taken
from convc.ops.values import values
from convc.types import Dim, DType, Extent, Shape, TensorType, size_of


@register
@dataclass(frozen=True)
class Transpose(Op):
    """Output dimension d is dimension perm[d] of x."""

    perm: tuple[int, ...] = ()

    def infer(self, x: TensorType) -> Types:
        if sorted(self.perm) != list(range(x.rank)):
            raise fail(self, f"perm expects an order of 0 … {x.rank - 1}, got {self.perm}")
        return (TensorType(x.dtype, tuple(x.shape[p] for p in self.perm)),)

    def reference(self, x: Array) -> Array:
        return np.transpose(x, self.perm)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        return (dy.transpose(self.perm.index(d) for d in range(dy.rank)).name,)

    def formula(self, x: Tensor) -> At:
        return lambda *at: x(*(at[self.perm.index(d)] for d in range(x.rank)))

    def view(self, x: TensorType) -> View:
        return Permuted(self.perm)


@register
@dataclass(frozen=True)
class Reshape(Op):
    """The elements of x in row-major order under another shape; one extent may be -1: what remains."""

    shape: Shape = ()

    def infer(self, x: TensorType) -> Types:
        return (TensorType(x.dtype, self.resolved(x.shape)),)

    def resolved(self, shape: Shape) -> Shape:
        """The output shape for an input shape."""
        given, mismatch = size_of(shape), f"shape {text(self.shape)} does not fit x {text(shape)}"
        unknown = [d for d, e in enumerate(self.shape) if e == -1]
        if len(unknown) > 1 or any(isinstance(e, int) and e < -1 for e in self.shape):
            raise fail(
                self, f"shape expects extents ≥ 0 and one -1 at most, got {text(self.shape)}"
            )
        if unknown:
            rest = quotient(given, size_of(e for e in self.shape if e != -1))
            if rest is None:
                raise fail(self, mismatch)
            return tuple(rest if e == -1 else e for e in self.shape)
        if size_of(self.shape) != given:
            raise fail(self, f"{mismatch}: {size_of(self.shape)} elements expected, got {given}")
        return self.shape

    def reference(self, x: Array) -> Array:
        return x.reshape(numbers(self.shape))

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        return (dy.reshape(builder.types[inputs[0]].shape).name,)

    def formula(self, x: Tensor) -> At:
        shape = self.resolved(x.shape)
        groups = matching_groups(x.shape, shape)

        def at(*out: Expr) -> Expr:
            found: list[Expr] = [ZERO] * x.rank
            for inputs, outputs in groups:
                position: Expr = ZERO
                for d in outputs:
                    position = position * index(shape[d]) + out[d]
                for d, i in zip(
                    inputs, digits(position, [x.shape[d] for d in inputs]), strict=True
                ):
                    found[d] = i
            return x(*found)

        return at

    def view(self, x: TensorType) -> View:
        return Reshaped()


def quotient(a: Extent, b: Extent) -> Extent | None:
    """a / b where that is an extent."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    try:
        return a // b if isinstance(a, Dim) and b != 0 else None
    except ValueError:
        return None


def matching_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Splits two shapes of one size into the smallest runs of dimensions with equal sizes, 1s aside."""
    inputs = [d for d, e in enumerate(old) if e != 1]
    outputs = [d for d, e in enumerate(new) if e != 1]
    groups = []
    while inputs and outputs:
        a, b = next(
            (a, n - a)
            for n in range(2, len(inputs) + len(outputs) + 1)
            for a in range(max(1, n - len(outputs)), min(n - 1, len(inputs)) + 1)
            if size_of(old[d] for d in inputs[:a]) == size_of(new[d] for d in outputs[: n - a])
        )
        groups.append((inputs[:a], outputs[:b]))
        inputs, outputs = inputs[a:], outputs[b:]
    return groups


def digits(position: Expr, extents: list[Extent]) -> list[Expr]:
    """The indices of a row-major position."""
    found = []
    for n in range(len(extents)):
        digit = position // index(size_of(extents[n + 1 :]))
        found.append(digit if n == 0 else digit % index(extents[n]))
    return found


@register
@dataclass(frozen=True)
class Broadcast(Op):
    """x repeated to a shape by numpy's broadcasting."""

    shape: Shape = ()

    def infer(self, x: TensorType) -> Types:
        if broadcast_shapes(self, x.shape, self.shape) != self.shape:
            raise fail(self, f"x {text(x.shape)} does not broadcast to {text(self.shape)}")
        return (TensorType(x.dtype, self.shape),)

    def reference(self, x: Array) -> Array:
        return np.broadcast_to(x, numbers(self.shape))

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        return (dy.summed_to(builder.types[inputs[0]].shape).name,)

    def formula(self, x: Tensor) -> At:
        return lambda *at: broadcast_at(x, at)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        if x.rank != len(perm) or len(self.shape) != len(perm):
            return None
        return Broadcast(tuple(self.shape[p] for p in perm))


@register
@dataclass(frozen=True)
class Concat(Op):
    """The inputs one after the other along an axis."""

    axis: int = -1

    def infer(self, *xs: TensorType) -> Types:
        if not xs:
            raise fail(self, "expects at least one input, got none")
        first, axis = xs[0], axis_of(self, self.axis, xs[0].rank)
        total: Extent = 0
        for n, x in enumerate(xs):
            others = (x.shape[:axis], x.shape[axis + 1 :])
            fits = others == (first.shape[:axis], first.shape[axis + 1 :])
            if not fits or x.dtype is not first.dtype or x.rank != first.rank:
                raise fail(self, f"input {n} expects {first} but for axis {axis}, got {x}")
            total = total + x.shape[axis]
        return (TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])),)

    def reference(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        axis = axis_of(self, self.axis, dy.rank)
        found: list[str] = []
        start: Extent = 0
        for name in inputs:
            end = start + builder.types[name].shape[axis]
            found.append(taken(dy, axis, start, end).name)
            start = end
        return tuple(found)

    def formula(self, *xs: Tensor) -> At:
        axis = axis_of(self, self.axis, xs[0].rank)
        starts: list[Extent] = [0]
        for x in xs[:-1]:
            starts.append(starts[-1] + x.shape[axis])

        def at(*out: Expr) -> Expr:
            def element(n: int) -> Expr:
                return xs[n](*out[:axis], out[axis] - index(starts[n]), *out[axis + 1 :])

            value = element(len(xs) - 1)
            for n in reversed(range(len(xs) - 1)):
                value = select(out[axis] < index(starts[n + 1]), element(n), value)
            return value

        return at

    def permute(self, perm: tuple[int, ...], *xs: TensorType) -> Op | None:
        return Concat(perm.index(axis_of(self, self.axis, xs[0].rank)))

    def view(self, *xs: TensorType) -> View:
        return Joined(axis_of(self, self.axis, xs[0].rank))


def never_negative(extent: Extent) -> bool:
    """Whether an extent is 0 or more whatever its symbols' values (at least 0)."""
    return extent >= 0 if isinstance(extent, int) else all(c > 0 for _, c in extent.terms)


@register
@dataclass(frozen=True)
class Slice(Op):
    """x[start:end:step, …] with Python's rules, one entry per dimension; None is an open end.

    A symbolic dimension is taken whole, forwards or backwards, or in a part inside it whatever its symbols.
    """

    starts: tuple[Extent | None, ...] = ()
    ends: tuple[Extent | None, ...] = ()
    steps: tuple[int, ...] = ()

    def infer(self, x: TensorType) -> Types:
        for name, entries in (("starts", self.starts), ("ends", self.ends), ("steps", self.steps)):
            if len(entries) != x.rank:
                raise fail(self, f"{name} expects {x.rank} entries for x {x}, got {len(entries)}")
        return (TensorType(x.dtype, tuple(e for _, _, e in self.ranges(x.shape))),)

    def ranges(self, shape: Shape) -> list[tuple[Extent, int, Extent]]:
        """Per dimension: the first index, the step and the number of elements."""
        found: list[tuple[Extent, int, Extent]] = []
        for d, extent in enumerate(shape):
            start, end, step = self.starts[d], self.ends[d], self.steps[d]
            if step == 0:
                raise fail(self, f"steps expects numbers other than 0, got {self.steps}")
            if isinstance(extent, int):
                if isinstance(start, Dim) or isinstance(end, Dim):
                    raise fail(
                        self, f"dimension {d} of extent {extent} can't be cut at {start}:{end}"
                    )
                inside = range(extent)[start:end:step]
                found.append((inside.start, step, len(inside)))
            elif start is None and end is None and step == -1:
                found.append((extent - 1, step, extent))
            else:
                found.append((start or 0, step, self.symbolic_length(d, extent)))
        return found

    def symbolic_length(self, d: int, extent: Dim) -> Extent:
        """The elements that are taken of a dimension with symbols: a part that lies inside whatever their values."""
        start, end = self.starts[d] or 0, self.ends[d]
        if end is None:
            stop: Extent = extent
        else:
            stop = extent + end if isinstance(end, int) and end < 0 else end
        inside = (start, stop - start, extent - stop)
        if self.steps[d] != 1 or not all(map(never_negative, inside)):
            raise fail(
                self, f"dimension {d} of extent {extent} can only be taken whole, "
                f"got {self.starts[d]}:{self.ends[d]}:{self.steps[d]}"
            )  # fmt: skip
        return stop - start

    def reference(self, x: Array) -> Array:
        return x[tuple(map(slice, self.starts, self.ends, self.steps))]

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """Zeros between the elements that steps took apart, then before and after them."""
        x, dy = values(builder, (*inputs, *output_gradients))
        back = tuple(-1 if step < 0 else 1 for step in self.steps)
        if -1 in back:
            open_ends = (None,) * dy.rank
            dy = dy.apply("slice", starts=open_ends, ends=open_ends, steps=back)
        for d, (start, step, extent) in enumerate(self.ranges(x.shape)):
            first = start if step > 0 else start + step * (extent - 1)
            dy = placed(dy, d, first, abs(step), x.shape[d])
        return (dy.name,)

    def formula(self, x: Tensor) -> At:
        ranges = self.ranges(x.shape)

        def at(*out: Expr) -> Expr:
            return x(
                *(
                    index(start) + i * step if step > 0 else index(start) - i * -step
                    for i, (start, step, _) in zip(out, ranges, strict=True)
                )
            )

        return at

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return Slice(
            tuple(self.starts[p] for p in perm),
            tuple(self.ends[p] for p in perm),
            tuple(self.steps[p] for p in perm),
        )

    def view(self, x: TensorType) -> View | None:
        ranges = self.ranges(x.shape)
        return Part(tuple(s for s, _, _ in ranges)) if all(t == 1 for _, t, _ in ranges) else None


@register
@dataclass(frozen=True)
class Pad(Op):
    """x with (before, after) elements added per dimension; a negative number crops.

    mode: "constant" fills with `value`, "reflect" mirrors without the edge, "edge" repeats the edge.
    """

    pads: tuple[tuple[int, int], ...] = ()
    mode: str = "constant"
    value: float = 0.0

    def infer(self, x: TensorType) -> Types:
        if self.mode not in ("constant", "reflect", "edge"):
            raise fail(self, f"mode expects constant, reflect or edge, got {self.mode!r}")
        if len(self.pads) != x.rank:
            raise fail(self, f"pads expects {x.rank} pairs for x {x}, got {len(self.pads)}")
        for d, (pair, extent) in enumerate(zip(self.pads, x.shape, strict=True)):
            self.check_pads(d, pair, extent)
        shape = tuple(e + b + a for e, (b, a) in zip(x.shape, self.pads, strict=True))
        return (TensorType(x.dtype, shape),)

    def check_pads(self, d: int, pair: tuple[int, int], extent: Extent) -> None:
        if pair == (0, 0):
            return
        if not isinstance(extent, int):
            safe = min(pair) >= 0 or never_negative(extent + min(0, pair[0]) + min(0, pair[1]))
            if not safe or self.mode != "constant":
                raise fail(self, f"dimension {d} of extent {extent} can't be padded by {pair}")
            return
        limit = {"constant": None, "reflect": extent - 1, "edge": None if extent else 0}[self.mode]
        if limit is not None and max(pair) > limit:
            raise fail(
                self, f"pads of dimension {d} expect at most {limit} ({self.mode}), got {pair}"
            )
        if extent + sum(pair) < 0 or min(pair) < -extent:
            raise fail(self, f"pads {pair} crop more than the {extent} of dimension {d}")

    def reference(self, x: Array) -> Array:
        crop = tuple(
            slice(max(0, -b), e - max(0, -a)) for e, (b, a) in zip(x.shape, self.pads, strict=True)
        )
        added = [(max(0, b), max(0, a)) for b, a in self.pads]
        if self.mode == "constant":
            filler = x.dtype.type(self.value)
            return np.pad(x[crop], added, constant_values=filler)
        # Cropped last: the mirror image is that of the whole x.
        padded = np.pad(x, added, mode=self.mode)  # type: ignore[call-overload]
        result: Array = padded[
            tuple(
                slice(max(0, -b), e - max(0, -a))
                for e, (b, a) in zip(padded.shape, self.pads, strict=True)
            )
        ]
        return result

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        if self.mode == "constant":
            return (dy.apply("pad", pads=tuple((-b, -a) for b, a in self.pads)).name,)
        dy = dy.apply("pad", pads=tuple((max(0, -b), max(0, -a)) for b, a in self.pads))
        for d, (before, after) in enumerate(self.pads):
            dy = folded_back(dy, d, max(0, before), max(0, after), self.mode)
        return (dy.name,)

    def formula(self, x: Tensor) -> At:
        def at(*out: Expr) -> Expr:
            sources, inside = [], const(True, DType.bool)
            for i, (before, after), extent in zip(out, self.pads, x.shape, strict=True):
                source = i - before if before >= 0 else i + -before
                if self.mode == "constant":
                    condition = between(source, extent, before > 0, after > 0)
                    inside = inside & condition  # type: ignore[assignment]
                else:
                    source = self.folded(source, extent, (before, after))
                sources.append(source)
            return select(inside, x(*sources), const(self.value, x.dtype))

        return at

    def folded(self, i: Expr, extent: Extent, pair: tuple[int, int]) -> Expr:
        """An index brought back into the dimension."""
        last = index(extent - 1)
        if self.mode == "edge":
            i = maximum(i, 0) if pair[0] > 0 else i
            return minimum(i, last) if pair[1] > 0 else i
        i = maximum(i, 0 - i) if pair[0] > 0 else i
        return minimum(i, last + last - i) if pair[1] > 0 else i

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return Pad(tuple(self.pads[p] for p in perm), self.mode, self.value)


def between(i: Expr, extent: Extent, ask_start: bool, ask_end: bool) -> Expr:
    """Whether i lies in 0 … extent - 1, asking only what isn't known."""
    condition: Expr = i >= ZERO if ask_start else const(True, DType.bool)
    return condition & (i < index(extent)) if ask_end else condition


@register
@dataclass(frozen=True)
class Gather(Op):
    """x's slices along an axis at integer indices; negative ones count from the end.

    An index outside takes the nearest slice in compiled code.
    """

    axis: int = 0

    def infer(self, x: TensorType, indices: TensorType) -> Types:
        axis = axis_of(self, self.axis, x.rank)
        if not indices.dtype.is_integer:
            raise fail(self, f"indices expects an integer dtype, got {indices.dtype.value}")
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return (TensorType(x.dtype, shape),)

    def reference(self, x: Array, indices: Array) -> Array:
        return np.asarray(np.take(x, indices, axis=self.axis))

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, dy = values(builder, (inputs[0], *output_gradients))
        axis = axis_of(self, self.axis, x.rank)
        (indices,) = values(builder, inputs[1:])
        return (dy.apply("scatter_add", indices, axis=axis, extent=x.shape[axis]).name, None)

    def formula(self, x: Tensor, indices: Tensor) -> At:
        axis = axis_of(self, self.axis, x.rank)
        extent = index(x.shape[axis])

        def at(*out: Expr) -> Expr:
            chosen = indices(*out[axis : axis + indices.rank])
            i = chosen if chosen.dtype is DType.int64 else Cast(chosen, DType.int64)
            i = select(i < 0, i + extent, i)
            inside = minimum(maximum(i, 0), extent - 1)
            return x(*out[:axis], inside, *out[axis + indices.rank :])

        return at


@register
@dataclass(frozen=True)
class DepthToSpace(Op):
    """Moves blocks of channels of x[n, c, h, w] into block x block pixels.

    order: "dcr" (TensorFlow's: channel = (row, column, c)) or "crd" (channel = (c, row, column)).
    """

    block: int = 2
    order: str = "dcr"

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        n, c, h, w = x.shape
        if self.order not in ("dcr", "crd"):
            raise fail(self, f"order expects dcr or crd, got {self.order!r}")
        if self.block < 1 or not isinstance(c, int) or c % self.block**2:
            raise fail(self, f"channels must be a multiple of block² = {self.block**2}, got {c}")
        shape = (n, c // self.block**2, h * self.block, w * self.block)
        return (TensorType(x.dtype, shape),)

    def reference(self, x: Array) -> Array:
        n, c, h, w = x.shape
        b, depth = self.block, c // self.block**2
        if self.order == "dcr":
            parts = x.reshape(n, b, b, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            parts = x.reshape(n, depth, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return parts.reshape(n, depth, h * b, w * b)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        dx = dy.apply("space_to_depth", block=self.block)
        if self.order == "crd":
            n, c, h, w = dx.shape
            cells = self.block**2
            parts = dx.reshape((n, cells, dy.shape[1], h, w)).transpose((0, 2, 1, 3, 4))
            dx = parts.reshape((n, c, h, w))
        return (dx.name,)

    def formula(self, x: Tensor) -> At:
        b = self.block
        depth = index(x.shape[1]) // (b * b)

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            cell = i % b * b + j % b
            channel = cell * depth + c if self.order == "dcr" else c * (b * b) + cell
            return x(n, channel, i // b, j // b)

        return at


@register
@dataclass(frozen=True)
class SpaceToDepth(Op):
    """Moves block x block pixels of x[n, c, h, w] into channels: (row, column, c), as TensorFlow does."""

    block: int = 2

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        n, c, h, w = x.shape
        whole = isinstance(h, int) and isinstance(w, int)
        if self.block < 1 or not whole or h % self.block or w % self.block:  # type: ignore[operator]
            raise fail(self, f"height and width must be multiples of {self.block}, got {h} x {w}")
        shape = (n, c * self.block**2, h // self.block, w // self.block)
        return (TensorType(x.dtype, shape),)

    def reference(self, x: Array) -> Array:
        n, c, h, w = x.shape
        b = self.block
        parts = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * b * b, h // b, w // b)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        (dy,) = values(builder, output_gradients)
        return (dy.apply("depth_to_space", block=self.block).name,)

    def formula(self, x: Tensor) -> At:
        b, depth = self.block, index(x.shape[1])

        def at(n: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
            cell = c // depth
            return x(n, c % depth, i * b + cell // b, j * b + cell % b)

        return at
