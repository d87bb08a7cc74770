"""Layers of several inputs, and the functions that call them once."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from convc.errors import ModelError
from convc.graph.op import Op
from convc.keras.engine.arguments import axis_of, is_integer, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    elementwise_binary,
    function,
    promoted,
    reshape,
)
from convc.ops import broadcasting, elementwise, matmul, reduce, shape


class Merge(Layer):
    """One output from a list of inputs of matching shapes (1 stretches)."""

    supports_masking = True

    operator: ClassVar[type[Op]]
    least: ClassVar[int] = 1

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        ranks = {len(s) for s in shapes}
        if len(ranks) > 1:
            return  # broadcasting of different ranks is checked by the operator
        for sizes in zip(*shapes, strict=True):
            known = {s for s in sizes if s not in (None, 1)}
            if len(known) > 1:
                raise ModelError(
                    f"layer {self.name!r} ({type(self).__name__}): expected inputs of matching shapes; "
                    f"received {', '.join(map(str, shapes))}"
                )

    def _shapes(self, input_shape: Any) -> list[tuple[int | None, ...]]:
        several = isinstance(input_shape, (list, tuple)) and all(
            isinstance(s, tuple) for s in input_shape
        )
        if not several or len(input_shape) < self.least:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected a list of {self.least} or more inputs; "
                f"received {input_shape if several else 'one tensor of shape ' + str(input_shape)}"
            )
        return list(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.combined(list(inputs))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Where one of the inputs counts, if all have masks."""
        if previous_mask is None or any(m is None for m in previous_mask):
            return None
        either = function("logical_or")
        return functools.reduce(either, previous_mask)

    def combined(self, inputs: list[KerasTensor]) -> KerasTensor:
        rank = max(x.ndim for x in inputs)
        wide = [_widened(x, rank) for x in inputs]
        return functools.reduce(lambda a, b: elementwise_binary(self.operator, a, b), wide)


def _widened(x: KerasTensor, rank: int) -> KerasTensor:
    """The tensor with axes of size 1 behind the batch, so that one value for each sample goes with all places."""
    sizes = x.type.shape
    return reshape(x, (*sizes[:1], *(1,) * (rank - x.ndim), *sizes[1:]))


class Add(Merge):
    """The sum of its inputs."""

    operator = broadcasting.Add


class Multiply(Merge):
    """The product of its inputs."""

    operator = broadcasting.Mul


class Maximum(Merge):
    """The largest of its inputs."""

    operator = broadcasting.Maximum


class Minimum(Merge):
    """The smallest of its inputs."""

    operator = broadcasting.Minimum


class Subtract(Merge):
    """The first input minus the second."""

    operator = broadcasting.Sub
    least = 2

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ModelError(
                f"layer {self.name!r} (Subtract): expected exactly 2 inputs; received {len(input_shape)}"
            )


class Average(Merge):
    """The mean of its inputs."""

    operator = broadcasting.Add

    def combined(self, inputs: list[KerasTensor]) -> KerasTensor:
        return apply(broadcasting.Mul(), *promoted(super().combined(inputs), 1 / len(inputs)))


class Concatenate(Merge):
    """Its inputs one after the other along an axis."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not is_integer(axis):
            refuse(self, "axis", "an integer", axis)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        axis = axis_of(self, self.axis, len(shapes[0]))
        others = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
        if len(others) > 1 or len({len(s) for s in shapes}) > 1:
            raise ModelError(
                f"layer {self.name!r} (Concatenate): expected inputs that differ in axis {self.axis} only; "
                f"received {', '.join(map(str, shapes))}"
            )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The inputs' masks one after the other: along the steps, or where one of the inputs counts."""
        if previous_mask is None or all(m is None for m in previous_mask):
            return None
        like, expand = function("ones_like"), function("expand_dims")
        masks = []
        for given, mask in zip(inputs, previous_mask, strict=True):
            wide = like(given, dtype="bool")
            if mask is not None and mask.ndim < given.ndim:
                wide = function("logical_and")(expand(mask, -1), wide)
            masks.append(wide if mask is None or mask.ndim < given.ndim else mask)
        joined = function("concatenate")(masks, axis=self.axis)
        return function("any")(joined, axis=-1)

    def combined(self, inputs: list[KerasTensor]) -> KerasTensor:
        tensors = promoted(*inputs)
        return apply(shape.Concat(axis_of(self, self.axis, tensors[0].type.rank)), *tensors)


class Dot(Merge):
    """Products summed over one axis of each of two inputs; of unit vectors with `normalize`."""

    least = 2

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pair = (axes, axes) if is_integer(axes) else axes
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(is_integer, pair)):
            refuse(self, "axes", "an integer or 2 integers", axes)
        self.axes, self.normalize = (int(pair[0]), int(pair[1])), bool(normalize)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        if len(shapes) != 2 or any(len(s) not in (2, 3) for s in shapes):
            raise ModelError(
                f"layer {self.name!r} (Dot): expected 2 inputs of rank 2 or 3; received {', '.join(map(str, shapes))}"
            )
        a, b = (axis_of(self, axis, len(s)) for axis, s in zip(self.axes, shapes, strict=True))
        if 0 in (a, b) or shapes[0][a] != shapes[1][b]:
            raise ModelError(
                f"layer {self.name!r} (Dot): axes {self.axes} must have equal sizes and not be the batch; "
                f"received {', '.join(map(str, shapes))}"
            )

    def combined(self, inputs: list[KerasTensor]) -> KerasTensor:
        sides = []
        for side, (axis, x) in enumerate(zip(self.axes, promoted(*inputs), strict=True)):
            axis = axis_of(self, axis, x.type.rank)
            if self.normalize:
                x = _unit(x, axis)
            if x.type.rank == 2:
                n, size = x.type.shape
                x = apply(shape.Reshape((n, 1, size) if side == 0 else (n, size, 1)), x)
            elif axis != 2 - side:
                x = apply(shape.Transpose((0, 2, 1)), x)
            sides.append(x)
        y = apply(matmul.MatMul(), *sides)
        kept = [e for e, x in zip(y.type.shape[1:], inputs, strict=True) if x.type.rank == 3]
        return apply(shape.Reshape((y.type.shape[0], *(kept or [1]))), y)


def _unit(x: KerasTensor, axis: int) -> KerasTensor:
    """x divided by its Euclidean norm along an axis, at least 1e-6."""
    squares = apply(reduce.ReduceSum((axis,), True), apply(elementwise.Square(), x))
    floor = apply(elementwise.Clip(1e-12, None), squares)
    return apply(broadcasting.Mul(), x, apply(elementwise.Rsqrt(), floor))


def add(inputs: Any, **kwargs: Any) -> Any:
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: Any = -1, **kwargs: Any) -> Any:
    return Dot(axes=axes, **kwargs)(inputs)
