"""The inputs of an ONNX model as types: which dimensions are numbers, and which are symbols."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import GraphProto, TypeProto

from convc.errors import ConvcError, InputFileError, UnsupportedError, UsageError
from convc.graph.ir import Builder
from convc.onnx.importers.call import Many, Packed
from convc.onnx.narrow import NARROW
from convc.onnx.reading import LARGEST, dtype_of
from convc.types import Dim, Extent, TensorType, size_of

SIZED_BY_DATA = ("NonMaxSuppression", "NonZero", "Compress")
"""Operators whose first output may be given a number of rows."""


class Signature:
    """Makes a model's inputs. `shapes` gives numbers for named dimensions, or whole shapes for inputs.

    `batch` is the name of the first dimension that all inputs share: it becomes the symbol N.
    """

    def __init__(
        self, builder: Builder, shapes: Mapping[str, int | Sequence[Any]], batch: str | None
    ) -> None:
        self.builder = builder
        self.shapes = shapes
        self.batch = batch
        self.unused = dict.fromkeys(shapes)
        # What the model calls each symbol.
        self.labels: dict[str, str] = {}

    def check_used(self, graph: GraphProto) -> None:
        """UsageError for a name in `shapes` that no input, dimension or output of a size that data decide has."""
        sized = [n.output[0] for n in graph.node if n.op_type in SIZED_BY_DATA and n.output]
        for name in sized:
            self.unused.pop(name, None)
        if self.unused:
            known = sorted({*dimensions(graph), *(i.name for i in graph.input), *sized})
            raise UsageError(
                f"--shape: no dimension or input is called {next(iter(self.unused))!r}: expected {', '.join(known)}"
            )

    def read_input(self, info: onnx.ValueInfoProto) -> Any:
        """An input as a value; an optional one that is given as what it holds, else as None."""
        type, given = info.type, self.shapes.get(info.name)
        if type.WhichOneof("value") == "optional_type" and info.name in self.shapes:
            self.unused.pop(info.name, None)
            if given is None:
                return None
            type = type.optional_type.elem_type
        if type.WhichOneof("value") == "sequence_type" and isinstance(given, Sequence):
            self.unused.pop(info.name, None)
            dtype = dtype_of(type.sequence_type.elem_type.tensor_type.elem_type)
            shapes: Any = given
            types = [TensorType(dtype, tuple(shape)) for shape in shapes]
            names = [f"{info.name}.{k}" for k in range(len(types))]
            return Many(tuple(map(self.builder.input, names, types)))
        kind = NARROW.get(type.tensor_type.elem_type)
        value = self.builder.input(info.name, self.input_type(info.name, type))
        return value if kind is None else Packed(value, kind)

    def input_type(self, name: str, type: TypeProto) -> TensorType:
        if type.WhichOneof("value") != "tensor_type":
            self.unused.pop(name, None)
            kind = type.WhichOneof("value") or "nothing"
            raise UnsupportedError(f"{kind.removesuffix('_type')} inputs are not supported")
        self.unused.pop(name, None)
        tensor = type.tensor_type
        kind = NARROW.get(tensor.elem_type)
        dtype = dtype_of(tensor.elem_type) if kind is None else kind.carrier
        whole = self.shapes.get(name)
        if isinstance(whole, Sequence):
            return TensorType(dtype, tuple(int(e) for e in whole))
        if not tensor.HasField("shape"):
            raise UnsupportedError("its rank is not given: give its shape by --shape")
        shape = [self.extent(name, d, dim) for d, dim in enumerate(tensor.shape.dim)]
        if isinstance(size := size_of(shape), int) and size > LARGEST:
            raise InputFileError(f"input {name!r} has impossible dimensions {shape}")
        return TensorType(dtype, tuple(shape))

    def extent(self, name: str, d: int, dim: onnx.TensorShapeProto.Dimension) -> Extent:
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise InputFileError(f"input {name!r}: dimension {d} is {dim.dim_value}")
            return int(dim.dim_value)
        label = dim.dim_param or ("N" if d == 0 else f"{name}_{d}")
        given = self.shapes.get(label)
        if isinstance(given, int):
            self.unused.pop(label, None)
            return given
        if label == self.batch or (d == 0 and not dim.dim_param):
            self.labels["N"] = dim.dim_param or "N"
            return self.batch_extent()
        symbol = re.sub(r"\W", "_", label) if label != "N" else "N_"
        self.labels[symbol] = label
        return Dim.symbol(symbol)

    def inferred(self, name: str, type: Any, legal: str) -> TensorType | None:
        """The type that ONNX inferred for a value, None where it didn't. Dimensions without a name get symbols."""
        if type is None or not type.HasField("shape"):
            return None
        known = dict(self.labels)
        try:
            dtype = dtype_of(type.elem_type)
            shape = [self.extent(name, d, dim) for d, dim in enumerate(type.shape.dim)]
        except ConvcError:
            return None
        self.labels = known | {s: n for s, n in self.labels.items() if s in known}
        named = [
            e if dim.HasField("dim_value") or dim.dim_param else Dim.symbol(f"{legal}_{d}")
            for d, (e, dim) in enumerate(zip(shape, type.shape.dim, strict=True))
        ]
        return TensorType(dtype, tuple(named))

    def batch_extent(self) -> Extent:
        given = self.shapes.get("N")
        self.unused.pop("N", None)
        return given if isinstance(given, int) else Dim.symbol("N")


def dimensions(graph: GraphProto) -> list[str]:
    """The names of the inputs' dimensions."""
    return [d.dim_param for i in graph.input for d in i.type.tensor_type.shape.dim if d.dim_param]


def leading_symbol(inputs: Sequence[onnx.ValueInfoProto]) -> str | None:
    """The name of the first dimension that all inputs share."""
    names = set()
    for info in inputs:
        dims = info.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            names.add(dims[0].dim_param)
    return names.pop() if len(names) == 1 else None
