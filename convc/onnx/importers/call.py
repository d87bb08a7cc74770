"""What an import rule sees of one ONNX node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from convc.errors import ConvcError
from convc.graph.ir import Array, Builder
from convc.graph.op import Op
from convc.onnx.narrow import Narrow
from convc.ops.broadcasting import Broadcasting, Less
from convc.ops.elementwise import Cast
from convc.ops.shape import Reshape, Slice, Transpose
from convc.types import Dim, DType, Extent, Shape, TensorType


class Rejected(ConvcError):  # noqa: N818  # a reason, not the error that users see
    """Why a node can't be imported: one reason for the list that the importer makes."""

    exit_code = 5


class ValueNeeded(Rejected):
    """A parameter that shapes depend on is an input of the model, whose value isn't known yet."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"needs the value of the input {name!r} at compile time{hint}")
        self.name = name


@dataclass(frozen=True)
class Symbolic:
    """Integers that are known but for symbols: what Shape gives, and arithmetic on it. `values` is an object array."""

    values: Array
    dtype: DType = DType.int64


MOST_OPERATORS = 1 << 17
"""Operators that a model may become; loops and layers over time are unrolled."""

LARGEST_CONSTANT = 1 << 24
"""Elements of a constant that a rule makes."""


Result = "str | Symbolic | tuple[str | Symbolic | None, ...]"


@dataclass(frozen=True)
class Many:
    """A sequence of tensors; its length is known at import."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Packed:
    """A tensor of an element type that convc carries in bytes: `value` has the carrier's dtype."""

    value: str
    kind: Narrow


class Importer(Protocol):
    """What a rule may ask of the importer."""

    builder: Builder

    def evaluate(self, name: str) -> Array: ...
    def known(self, name: str) -> bool: ...
    def rows(self, name: str) -> int | None: ...
    def require(self, text: str, held: str) -> None: ...
    def named(self, name: str) -> object: ...
    def subgraph(self, graph: Any, inputs: Sequence[Any]) -> list[Any]: ...
    def array(self, tensor: Any) -> Array: ...


class Call:
    """One node: its inputs as values of the graph, its attributes, and the means to emit operators."""

    def __init__(
        self,
        importer: Importer,
        kind: str,
        opset: int,
        inputs: Sequence[str | Symbolic | Many | Packed | None],
        attributes: dict[str, Any],
        outputs: Sequence[str],
        base: str,
    ) -> None:
        self.importer = importer
        self.builder = importer.builder
        self.kind = kind
        self.opset = opset
        self.values = list(inputs)
        self.attributes = attributes
        self.outputs = list(outputs)
        self.base = base

    # ------------------------------------------------------------ inputs

    def __len__(self) -> int:
        return len(self.values)

    def has(self, k: int) -> bool:
        """Whether input k is given."""
        return k < len(self.values) and self.values[k] is not None

    def wants(self, k: int) -> bool:
        """Whether output k is used."""
        return k < len(self.outputs) and self.outputs[k] != ""

    def __getitem__(self, k: int) -> str:
        """Input k as a value of the graph."""
        value = self.values[k] if k < len(self.values) else None
        if value is None:
            raise Rejected(f"input {k} is missing")
        if isinstance(value, Many):
            raise Rejected(f"input {k} is a sequence")
        if isinstance(value, Packed):
            raise Rejected(f"element type {value.kind.name} is not supported here")
        if isinstance(value, Symbolic):
            raise Rejected(
                "computes with a dimension that is a symbol: give it a number by --shape"
            )
        return value

    def rest(self, start: int = 0) -> list[str]:
        """The inputs from `start` on, all of which must be given."""
        return [self[k] for k in range(start, len(self.values))]

    def type(self, value: int | str) -> TensorType:
        """The type of an input by its position, or of a value."""
        return self.builder.types[self[value] if isinstance(value, int) else value]

    def shape(self, value: int | str) -> Shape:
        return self.type(value).shape

    def dtype(self, value: int | str) -> DType:
        return self.type(value).dtype

    def rank(self, value: int | str) -> int:
        return self.type(value).rank

    def numbers(self, value: int | str, what: str = "shape") -> tuple[int, ...]:
        """A shape without symbols."""
        shape = self.shape(value)
        if not all(isinstance(e, int) for e in shape):
            raise Rejected(f"needs a {what} without symbols, got {list(shape)}: give --shape")
        return shape  # type: ignore[return-value]

    # ------------------------------------------------------------ parameters

    def attr(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def array(self, k: int) -> Array:
        """Input k, known at compile time."""
        return self.importer.evaluate(self[k])

    def rows(self, count: Callable[[], int]) -> int:
        """How many rows the first output has, where data decide it.

        As many as somebody said (`--shape NAME=rows`, NAME being the output's), else `count()`, which may evaluate
        values: exact, for one run's data.
        """
        given = self.given_rows()
        if given is not None:
            return given
        try:
            return count()
        except ValueNeeded as error:
            hint = f", or a number of rows by --shape {self.outputs[0]}=rows"
            raise ValueNeeded(error.name, hint) from None

    def given_rows(self) -> int | None:
        """The number of rows that somebody said the first output has."""
        return self.importer.rows(self.outputs[0])

    def require_rows(self, rest: str, count: int) -> None:
        """A run fails whose data give more rows than somebody said: `rest` has none of -1 then."""
        flat = self.slice(self.reshape(rest, (math.prod(self.numbers(rest)),)), 0, 0, 1)
        held = self.reshape(self.add(Less(), flat, self.scalar(0, flat)), ())
        self.importer.require(f"{self.outputs[0]}: {count} rows at most", held)

    def extents(self, k: int) -> tuple[Extent, ...]:
        """Input k as integers that may mention symbols."""
        value = self.values[k]
        flat = value.values if isinstance(value, Symbolic) else self.array(k)
        return tuple(e if isinstance(e, Dim) else int(e) for e in flat.reshape(-1).tolist())

    def ints(self, k: int) -> tuple[int, ...]:
        """Input k as plain integers, known at compile time."""
        extents = self.extents(k)
        if not all(isinstance(e, int) for e in extents):
            raise Rejected("needs a number where a dimension is a symbol: give --shape")
        return extents  # type: ignore[return-value]

    def axis(self, value: int | str, default: int = 0, name: str = "axis") -> int:
        """An axis attribute counted from the front."""
        return self.from_front(int(self.attr(name, default)), self.rank(value))

    def from_front(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise Rejected(f"axis {axis} is outside of rank {rank}")
        return axis % rank

    # ------------------------------------------------------------ emitting

    def require_small(self, *extents: int) -> None:
        """Rejected where a constant of these extents would be too large to be made at import."""
        if math.prod(extents) > LARGEST_CONSTANT:
            raise Rejected(f"needs a constant of {math.prod(extents)} elements")

    def add(self, op: Op, *inputs: str) -> str:
        if len(self.builder.nodes) >= MOST_OPERATORS:
            raise Rejected(f"needs more than {MOST_OPERATORS} operators")
        return self.builder.add(op, *inputs, name=self.base)

    def constant(self, array: Any, dtype: DType | None = None) -> str:
        """A constant tensor."""
        given = np.asarray(array)
        return self.builder.weight("constant", given.astype(dtype.numpy) if dtype else given)

    def scalar(self, value: float, like: str) -> str:
        """A constant of rank 0 in the dtype of a value."""
        return self.constant(np.array(value), self.dtype(like))

    def cast(self, value: str, dtype: DType) -> str:
        return value if self.dtype(value) is dtype else self.add(Cast(dtype), value)

    def reshape(self, value: str, shape: Iterable[Extent]) -> str:
        wanted = tuple(shape)
        return value if self.shape(value) == wanted else self.add(Reshape(wanted), value)

    def transpose(self, value: str, perm: Iterable[int]) -> str:
        order = tuple(perm)
        return value if order == tuple(range(len(order))) else self.add(Transpose(order), value)

    def slice(
        self, value: str, axis: int, start: int | None, end: int | None, step: int = 1
    ) -> str:
        """value[start:end:step] along one axis."""
        rank = self.rank(value)
        starts: list[int | None] = [None] * rank
        ends: list[int | None] = [None] * rank
        steps = [1] * rank
        starts[axis], ends[axis], steps[axis] = start, end, step
        return self.add(Slice(tuple(starts), tuple(ends), tuple(steps)), value)

    def take(self, value: str, axis: int, k: int) -> str:
        """The slice at index k of an axis, which goes away."""
        shape = self.shape(value)
        part = self.slice(value, axis, k, k + 1)
        return self.reshape(part, (*shape[:axis], *shape[axis + 1 :]))

    def wide(self, value: str) -> str:
        """16-bit floats as float32: several operators on them round once, at the end."""
        half = self.dtype(value) in (DType.float16, DType.bfloat16)
        return self.cast(value, DType.float32) if half else value

    def fold(self, op: Callable[[], Broadcasting], values: Sequence[str]) -> str:
        """op(op(a, b), c) …"""
        result, *others = values
        for value in others:
            result = self.add(op(), result, value)
        return result


Rule = Callable[[Call], Any]
"""`rule(call)`: the value that the node makes, or a tuple of its outputs' values (None for those not made)."""
