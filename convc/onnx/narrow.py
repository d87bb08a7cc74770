"""ONNX' element types of 8 bits and less that convc has no dtype for: how their elements are carried.

4-bit and 2-bit integers are carried as int8 or uint8, a byte each; small floats as the uint8 of their bits. Arithmetic
on them goes through conversions, which are native code like the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from convc.graph.ir import Array
from convc.types import DType


@dataclass(frozen=True)
class Narrow:
    """An element type of ONNX: its number and name, numpy's type for it, and the dtype that carries it."""

    code: int
    name: str
    numpy: np.dtype[Any]
    carrier: DType

    @property
    def is_float(self) -> bool:
        return self.name.startswith("float")

    @property
    def bits(self) -> int:
        info: Any = ml_dtypes.finfo if self.is_float else ml_dtypes.iinfo
        return int(info(self.numpy).bits)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest integer."""
        info: Any = ml_dtypes.iinfo(self.numpy)  # type: ignore[no-untyped-call]
        return int(info.min), int(info.max)

    def carried(self, array: Array) -> Array:
        """An array of this type in the dtype that carries it."""
        if self.is_float:
            return np.ascontiguousarray(array).view(np.uint8).reshape(array.shape)
        return array.astype(self.carrier.numpy)

    def restored(self, array: Array) -> Array:
        """The array of this type that a carrier stands for."""
        if self.is_float:
            return np.ascontiguousarray(array).view(self.numpy).reshape(array.shape)
        return array.astype(self.numpy)

    def bits_of(self, value: float) -> int:
        """The bits of a number, rounded to this type without saturation."""
        return int(np.array([value], np.float32).astype(self.numpy).view(np.uint8)[0])


def _row(code: int, type: Any, carrier: DType = DType.uint8) -> Narrow:
    name = str(TensorProto.DataType.Name(code)).lower()
    return Narrow(code, name, np.dtype(type), carrier)


NARROW: dict[int, Narrow] = {
    row.code: row
    for row in (
        _row(TensorProto.INT4, ml_dtypes.int4, DType.int8),
        _row(TensorProto.UINT4, ml_dtypes.uint4),
        _row(TensorProto.INT2, ml_dtypes.int2, DType.int8),
        _row(TensorProto.UINT2, ml_dtypes.uint2),
        _row(TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        _row(TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
        _row(TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        _row(TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
        _row(TensorProto.FLOAT8E8M0, ml_dtypes.float8_e8m0fnu),
        _row(TensorProto.FLOAT4E2M1, ml_dtypes.float4_e2m1fn),
    )
}
"""Every such type by its number."""

BY_NUMPY = {row.numpy: row for row in NARROW.values()}
