"""ONNX files and their tensors, read without trusting what they say about their sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from convc.errors import InputFileError, UnsupportedError
from convc.graph.ir import Array
from convc.onnx.exporter import CODES
from convc.onnx.narrow import NARROW
from convc.types import DType

DTYPES: dict[int, DType] = {code: dtype for dtype, code in CODES.items()}
"""Our element type for ONNX' number of it."""

FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}
"""Where a tensor without raw data keeps its elements; all other types use int32_data."""

LARGEST = 1 << 40
"""No tensor has more elements: past it a shape is taken for an attack or a mistake."""


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model of a file. InputFileError if it can't be read, is damaged or isn't ONNX."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file (expected an ONNX model)") from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror} (expected an ONNX model)") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError):
        raise InputFileError(
            f"{path}: expected an ONNX model, got {len(data)} bytes that are damaged or something else"
        ) from None
    if not model.HasField("graph") or not model.opset_import:
        raise InputFileError(f"{path}: expected an ONNX model, got one without a graph or an opset")
    return model


def read_whole_model(path: str | os.PathLike[str]) -> ModelProto:
    """The model of a file with its external data in memory. Import it first, which checks where the data lies."""
    model = read_model(path)
    onnx.load_external_data_for_model(model, str(Path(path).parent))
    return model


def check_names(model: onnx.ModelProto) -> None:
    """InputFileError for a name that isn't UTF-8, which the protobuf library gives back as bytes."""
    graph = model.graph
    names: list[object] = [
        graph.name,
        *(v.name for v in (*graph.input, *graph.output, *graph.initializer)),
    ]
    names += [d.dim_param for i in graph.input for d in i.type.tensor_type.shape.dim]
    names += [o.domain for o in model.opset_import]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    for name in names:
        if not isinstance(name, str):
            raise InputFileError(f"the name {name!r} is not text")


def dtype_name(code: int) -> str:
    """ONNX' name of an element type."""
    try:
        return str(TensorProto.DataType.Name(code)).lower()
    except ValueError:
        return f"number {code}"


def dtype_of(code: int) -> DType:
    """Our element type; UnsupportedError for one convc has not."""
    found = DTYPES.get(code)
    if found is None:
        raise UnsupportedError(f"element type {dtype_name(code)} is not supported")
    return found


def array_of(tensor: TensorProto, folder: Path | None = None) -> Array:
    """A tensor's elements. External data is looked for in `folder` alone.

    InputFileError where the dimensions and the data disagree; UnsupportedError for an element type convc has not.
    """
    what = f"tensor {tensor.name!r}"
    if tensor.data_type in NARROW:
        return carried_array(tensor)
    dtype = dtype_of(tensor.data_type)
    shape = checked_shape(tensor.dims, what)
    count = math.prod(shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        return external_array(tensor, dtype, shape, folder)
    if tensor.HasField("raw_data"):
        expected, got = count * dtype.itemsize, len(tensor.raw_data)
        if expected != got:
            raise InputFileError(
                f"{what} says {list(shape)} of {dtype.value}, {expected} bytes, but has {got}"
            )
        return np.frombuffer(tensor.raw_data, dtype.numpy).reshape(shape)
    got = len(getattr(tensor, FIELDS.get(tensor.data_type, "int32_data")))
    if count != got:
        raise InputFileError(f"{what} says {list(shape)}, {count} elements, but has {got}")
    try:
        return np.asarray(numpy_helper.to_array(tensor)).astype(dtype.numpy, copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputFileError(f"{what}: {error}") from None


def carried_array(tensor: TensorProto) -> Array:
    """The elements of a tensor of a narrow element type, in the dtype that carries it."""
    what, kind = f"tensor {tensor.name!r}", NARROW[tensor.data_type]
    count = math.prod(checked_shape(tensor.dims, what))
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedError(f"external data of the element type {kind.name} is not supported")
    if tensor.HasField("raw_data"):
        expected, got = -(-count * kind.bits // 8), len(tensor.raw_data)
        if expected != got:
            raise InputFileError(f"{what} of {kind.name} expects {expected} bytes, but has {got}")
    try:
        return kind.carried(np.asarray(numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputFileError(f"{what}: {error}") from None


def checked_shape(dims: Iterable[int], what: str) -> tuple[int, ...]:
    """Dimensions that a tensor may have; InputFileError for others."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape) or math.prod(shape) > LARGEST:
        raise InputFileError(f"{what} has impossible dimensions {list(shape)}")
    return shape


def external_array(
    tensor: TensorProto, dtype: DType, shape: tuple[int, ...], folder: Path | None
) -> Array:
    """A tensor whose bytes lie in a file in the model's folder."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    what = f"tensor {tensor.name!r}"
    if not all(isinstance(text, str) for text in (*entries, *entries.values())):
        raise InputFileError(f"{what} lies in {location!r}: expected text")
    if folder is None:
        raise InputFileError(f"{what} lies in {location!r}, but the model has no folder")
    path = external_path(what, folder, location)
    size = math.prod(shape) * dtype.itemsize
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        available = path.stat().st_size
    except ValueError:
        raise InputFileError(f"{what}: expected numbers as offset and length") from None
    except OSError as error:
        raise InputFileError(f"{what}: {location}: {error.strerror}") from None
    if length != size or offset < 0 or offset + size > available:
        raise InputFileError(
            f"{what} says {list(shape)} of {dtype.value}, {size} bytes at {offset} of {location!r}, "
            f"but {length} of the file's {available} are meant"
        )
    if size == 0:
        return np.zeros(shape, dtype.numpy)
    mapped = np.memmap(path, np.uint8, "r", offset, (size,))
    return mapped.view(dtype.numpy).reshape(shape)


def external_path(what: str, folder: Path, location: str) -> Path:
    """The file of external data, which must lie inside the folder, links followed."""
    path = Path(location)
    inside = not path.is_absolute() and ".." not in path.parts and location not in ("", ".")
    root = folder.resolve()
    if not inside or not (root / path).resolve().is_relative_to(root):
        raise InputFileError(f"{what} lies in {location!r}: expected a file in the model's folder")
    return root / path


def attributes_of(attribute: AttributeProto) -> object:
    """An attribute's value: a number, text, a list of these, a TensorProto or a GraphProto."""
    match attribute.type:
        case AttributeProto.FLOAT:
            return attribute.f
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.STRING:
            return attribute.s.decode("utf-8", "replace")
        case AttributeProto.TENSOR:
            return attribute.t
        case AttributeProto.GRAPH:
            return attribute.g
        case AttributeProto.FLOATS:
            return list(attribute.floats)
        case AttributeProto.INTS:
            return list(attribute.ints)
        case AttributeProto.TYPE_PROTO:
            return attribute.tp
        case AttributeProto.STRINGS:
            return [s.decode("utf-8", "replace") for s in attribute.strings]
    kind = AttributeProto.AttributeType.Name(attribute.type)
    raise UnsupportedError(f"attribute {attribute.name!r} is of the kind {kind.lower()}")


def subgraph_names(graph: GraphProto) -> set[str]:
    """The names that a subgraph reads from outside or inside."""
    return {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
