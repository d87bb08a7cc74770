"""Import rules of quantized forms: QuantizeLinear, DequantizeLinear and the QLinear operators."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Packed, Rejected, Rule
from convc.onnx.importers.narrow import opened, quantized_narrow
from convc.onnx.importers.products import product
from convc.onnx.importers.windows import centred, convolved
from convc.onnx.narrow import NARROW, Narrow
from convc.onnx.reading import dtype_of
from convc.ops.broadcasting import Add, Div, Maximum, Minimum, Mul, Sub
from convc.ops.elementwise import Clip, Round
from convc.ops.reduce import ReduceMax, ReduceMin
from convc.ops.shape import Broadcast
from convc.types import DType


def spread(c: Call, value: str, like: str, axis: int, block: int) -> str:
    """A scale or zero point in a form that broadcasts to x: one number, one per axis index, or one per block."""
    shape = c.shape(value)
    if shape in ((), (1,)) and c.rank(like) != 1:
        return c.reshape(value, ())
    if len(shape) <= 1 and not block:
        return c.reshape(value, (*shape, *[1] * (c.rank(like) - 1 - axis))) if shape else value
    if not block:
        raise Rejected(f"a scale of shape {list(shape)} needs block_size")
    whole = c.numbers(like)
    around = (*shape[:axis], shape[axis], block, *shape[axis + 1 :])
    repeated = c.add(
        Broadcast(around), c.reshape(value, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    )
    merged = c.reshape(repeated, (*shape[:axis], shape[axis] * block, *shape[axis + 1 :]))
    return merged if c.shape(merged) == whole else c.slice(merged, axis, 0, whole[axis])


def limited(c: Call, x: str, dtype: DType) -> str:
    """Floats rounded to even and brought into an integer dtype's range."""
    limits = np.iinfo(dtype.numpy)
    wide = c.cast(x, DType.float64) if dtype.itemsize >= 4 else x
    return c.cast(c.add(Clip(float(limits.min), float(limits.max)), c.add(Round(), wide)), dtype)


def quantized(
    c: Call, x: str, scale: str, zero: str | None, dtype: DType, axis: int = 0, block: int = 0
) -> str:
    """round(x / scale) + zero, saturated."""
    scale = spread(c, c.cast(scale, c.dtype(x)), x, axis, block)
    levels = c.add(Round(), c.add(Div(), x, scale))
    if zero is not None:
        levels = c.add(Add(), levels, spread(c, c.cast(zero, c.dtype(x)), x, axis, block))
    return limited(c, levels, dtype)


def quantize(c: Call) -> object:
    kind = narrow_result(c)
    if kind is not None:
        return quantize_narrow(c, kind)
    x = c.wide(c[0])
    if c.dtype(x).is_integer:
        x = c.cast(x, DType.float32)
    code = int(c.attr("output_dtype", 0))
    dtype = c.dtype(2) if c.has(2) else dtype_of(code) if code else DType.uint8
    zero = c[2] if c.has(2) else None
    axis = c.axis(0, 1) if c.rank(1) else 0
    return quantized(c, x, c[1], zero, dtype, axis, int(c.attr("block_size", 0)))


def narrow_result(c: Call) -> Narrow | None:
    """The narrow element type of the result, if it is one."""
    zero = c.values[2] if c.has(2) else None
    code = zero.kind.code if isinstance(zero, Packed) else int(c.attr("output_dtype", 0))
    return NARROW.get(code)


def quantize_narrow(c: Call, kind: Narrow) -> Packed:
    x = c.wide(c[0])
    axis, block = c.axis(0, 1) if c.rank(1) else 0, int(c.attr("block_size", 0))
    levels = c.add(Div(), x, spread(c, c.cast(c[1], c.dtype(x)), x, axis, block))
    zero = c.values[2] if c.has(2) else None
    if isinstance(zero, Packed):
        shaped = spread(c, zero.value, x, axis, block)
        zero = Packed(shaped, kind)
        if kind.bits == 4 and kind.is_float:
            levels = c.add(Add(), levels, c.cast(opened(c, zero), c.dtype(levels)))
    return quantized_narrow(c, levels, zero if isinstance(zero, Packed) else None, kind)


def dequantize_narrow(c: Call, packed: Packed) -> str:
    """(x - zero) * scale. Floats have no zero point but zero."""
    axis, block = c.axis(packed.value, 1) if c.rank(1) else 0, int(c.attr("block_size", 0))
    value = c.cast(opened(c, packed), DType.float32)
    zero = c.values[2] if c.has(2) else None
    if isinstance(zero, Packed) and not packed.kind.is_float:
        point = spread(c, zero.value, packed.value, axis, block)
        value = c.add(Sub(), value, c.cast(point, DType.float32))
    factor = spread(c, c.cast(c[1], DType.float32), packed.value, axis, block)
    code = int(c.attr("output_dtype", 0))
    return c.cast(c.add(Mul(), value, factor), dtype_of(code) if code else c.dtype(1))


def dequantized(
    c: Call, x: str, scale: str, zero: str | None, axis: int = 0, block: int = 0
) -> str:
    """(x - zero) * scale in float32."""
    value = c.cast(x, DType.int32)
    if zero is not None:
        value = c.add(Sub(), value, spread(c, c.cast(zero, DType.int32), x, axis, block))
    factor = spread(c, c.cast(scale, DType.float32), x, axis, block)
    return c.add(Mul(), c.cast(value, DType.float32), factor)


def dequantize(c: Call) -> str:
    code = int(c.attr("output_dtype", 0))
    if isinstance(c.values[0], Packed):
        return dequantize_narrow(c, c.values[0])
    dtype = dtype_of(code) if code else c.dtype(1)
    axis = c.axis(0, 1) if c.rank(1) else 0
    zero = c[2] if c.has(2) else None
    y = dequantized(c, c[0], c[1], zero, axis, int(c.attr("block_size", 0)))
    return c.cast(y, dtype)


def dynamic_quantize(c: Call) -> tuple[str, str, str]:
    """Scale and zero point from the range of x, 0 included."""
    x = c[0]
    axes, zero = tuple(range(c.rank(0))), c.scalar(0, x)
    largest = c.add(Maximum(), c.add(ReduceMax(axes, False), x), zero)
    smallest = c.add(Minimum(), c.add(ReduceMin(axes, False), x), zero)
    scale = c.add(Div(), c.add(Sub(), largest, smallest), c.scalar(255, x))
    point = c.add(Round(), c.add(Sub(), zero, c.add(Div(), smallest, scale)))
    point = limited(c, point, DType.uint8)
    return quantized(c, x, scale, point, DType.uint8), scale, point


def requantized(c: Call, total: str, a_scale: str, b_scale: str, y_scale: str, y_zero: int) -> str:
    """Sums of integers as integers of another scale."""
    factor = c.add(Mul(), c.cast(a_scale, DType.float32), c.cast(b_scale, DType.float32))
    real = c.add(Mul(), c.cast(total, DType.float32), factor)
    return quantized(c, real, c.cast(y_scale, DType.float32), c[y_zero], c.dtype(y_zero))


def qlinear_matmul(c: Call) -> str:
    """A, its scale and zero point; B, its; and those of the result. Scales of A per row, of B per column."""
    a = centred(c, c[0], 2, c.rank(0) - 2)
    b = centred(c, c[3], 5, c.rank(3) - 1)
    scales = [c[1], c[4]]
    if c.rank(1) == 1 and c.shape(1) != (1,):
        scales[0] = c.reshape(c[1], (*c.shape(1), 1))
    return requantized(c, product(c, a, b), scales[0], scales[1], c[6], 7)


def qlinear_conv(c: Call) -> str:
    """x, its scale and zero point; weights, theirs (per output channel perhaps); those of the result; a bias."""
    x, w = centred(c, c[0], 2), centred(c, c[3], 5, 0)
    total = convolved(c, x, w)
    rank = c.rank(total)
    if c.has(8):
        bias = c.reshape(c[8], (*c.shape(8), *[1] * (rank - 2)))
        total = c.add(Add(), total, bias)
    scale = c[4]
    if c.rank(4) == 1:
        scale = c.reshape(scale, (*c.shape(4), *[1] * (rank - 2)) if c.shape(4) != (1,) else ())
    return requantized(c, total, c.reshape(c[1], ()), scale, c[6], 7)


RULES: dict[str, Rule] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "QLinearMatMul": qlinear_matmul,
    "QLinearConv": qlinear_conv,
}
