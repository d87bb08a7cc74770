from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.interp import prepare, run_kernel, run_physical
from convc.loops.ir import INDEX, Binary, Buffer, Const, Expr, For, Kernel, Load, Role, Store, Var
from convc.loops.memory import pack
from convc.loops.parser import parse_kernel
from convc.types import DType

Array = NDArray[Any]

CONV = """
kernel conv(
  in x: float32[N, 6, 5] @(d0, d2, d1) border(0:0, 1:1, 0:0),
  in w: float32[20, 3] @(d0/16, d1, d0%16),
  out y: float32[N, 20, 6, 5] @(d0, d2, d3, d1),
) {
  for n in N parallel {
    for o in 20 { for i in 6 { for j in 5 {
      alloc acc: float32[] register
      acc[] = 0.0
      for r in 3 { acc[] = fma(x[n, i + r - 1, j], w[o, r], acc[]) }
      y[n, o, i, j] = max(acc[], 0.0)
    } } }
  }
}
"""


def elementwise(value: str, source: str, target: str, x: Array) -> Array:
    """What `y[i] = value` gives for every x[i]."""
    text = f"kernel k(in x: {source}[N], out y: {target}[N]) {{ for i in N {{ y[i] = {value} }} }}"
    y = np.zeros(len(x), DType(target).numpy)
    run_kernel(parse_kernel(text), {"x": np.asarray(x, DType(source).numpy), "y": y}, {"N": len(x)})
    return y


def test_a_convolution_goes_through_borders_and_blocks() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 5), np.float32), rng.standard_normal((20, 3), np.float32)
    y = np.zeros((2, 20, 6, 5), np.float32)
    run_kernel(parse_kernel(CONV), {"x": x, "w": w, "y": y}, {"N": 2})
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0))).astype(np.float64)
    exact = sum(np.einsum("nij,o->noij", padded[:, r : r + 6], w[:, r]) for r in range(3))
    np.testing.assert_allclose(y, np.maximum(exact, 0), atol=1e-6)


def test_physical_memory_is_what_the_layout_says() -> None:
    kernel = parse_kernel(
        "kernel k(in x: int32[2, 3] @(d1, d0), inout y: int32[2, 3] @(d0, d1:4)) {"
        " for i in 2 { for j in 3 { y[i, j] = x[i, j] + 1i32 } } }"
    )
    memory = {"x": np.arange(6, dtype=np.int32), "y": np.full(8, -1, np.int32)}
    run_physical(kernel, memory, {})
    np.testing.assert_array_equal(memory["y"], [1, 3, 5, -1, 2, 4, 6, -1])


@pytest.mark.parametrize(
    ("value", "source", "target", "x", "expected"),
    [
        ("x[i] + 1i8", "int8", "int8", [127], [-128]),
        ("x[i] * x[i]", "uint8", "uint8", [20], [144]),
        ("x[i] * x[i]", "int64", "int64", [2**32 + 3], [6 * 2**32 + 9]),
        ("x[i] << 31i32", "int32", "int32", [1, 3], [-(2**31), -(2**31)]),
        ("x[i] >> 1i32", "int32", "int32", [-5], [-3]),
        ("x[i] // 2i32", "int32", "int32", [-5, 5], [-3, 2]),
        ("x[i] % 3i32", "int32", "int32", [-5, 5], [1, 2]),
        ("uint8(x[i])", "int32", "uint8", [-1, 300], [255, 44]),
        ("int8(x[i])", "float32", "int8", [-1.9, 300, np.nan], [-1, 127, 0]),
        ("float32(x[i])", "bool", "float32", [True, False], [1, 0]),
        ("x[i] != 0.0", "float32", "bool", [0, np.nan], [False, True]),
        ("min(x[i], 1.0)", "float32", "float32", [np.nan, 2, 0], [np.nan, 1, 0]),
        ("max(1.0, x[i])", "float32", "float32", [np.nan, 2, 0], [np.nan, 2, 1]),
        ("1.0 / x[i]", "float32", "float32", [0, -0.0], [np.inf, -np.inf]),
        ("1.0f64 / x[i]", "float64", "float64", [0, -0.0, np.nan], [np.inf, -np.inf, np.nan]),
        ("bitcast(x[i], int32)", "float32", "int32", [1], [0x3F800000]),
        ("select(x[i] < 0.0, 0.0 - x[i], sqrt(x[i]))", "float32", "float32", [-4, 4], [4, 2]),
        ("abs(x[i])", "int8", "int8", [-128, -3], [-128, 3]),
    ],
)
def test_arithmetic_is_exact_in_its_dtype(
    value: str, source: str, target: str, x: list[Any], expected: list[Any]
) -> None:
    array = np.array(x).astype(DType(source).numpy)
    with np.errstate(over="ignore"):
        wanted = np.array(expected).astype(DType(target).numpy)
    np.testing.assert_array_equal(elementwise(value, source, target, array), wanted)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float64"])
def test_each_operation_rounds_to_the_dtype(name: str) -> None:
    dtype = DType(name).numpy
    suffix = {"float32": "", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}[name]
    x = np.random.default_rng(1).standard_normal(50).astype(dtype)
    y = elementwise(f"(x[i] * x[i] + 0.1{suffix}) / 3.0{suffix} - x[i]", name, name, x)
    kind = dtype.type
    np.testing.assert_array_equal(y, (x * x + kind(0.1)) / kind(3.0) - x)


def test_what_nobody_wrote_is_nan() -> None:
    y = np.zeros((2, 3), np.float32)
    kernel = parse_kernel("kernel k(out y: float32[2, 3]) { y[0, 1] = 1.0 }")
    run_kernel(kernel, {"y": y}, {})
    np.testing.assert_array_equal(y, [[np.nan, 1, np.nan], [np.nan] * 3])


def test_a_local_buffer_begins_anew_each_time() -> None:
    text = "kernel k(out y: float32[2]) { for i in 2 { alloc t: float32[1] stack y[i] = t[0] t[0] = 1.0 } }"
    y = np.zeros(2, np.float32)
    run_kernel(parse_kernel(text), {"y": y}, {})
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    "statement",
    [
        "y[i] = x[i - 1]",
        "y[i] = x[i + 1]",
        "y[i + 4] = 1.0",
        "y[i] = float32(dot_s8s8(0i32, p[i + 4]x4, p[0]x4))",
    ],
)
def test_an_index_outside_names_buffer_index_and_statement(statement: str) -> None:
    text = f"kernel k(in x: float32[4], in p: int8[8], out y: float32[4]) {{ for i in 4 {{ {statement} }} }}"
    arrays: dict[str, Array] = {
        "x": np.zeros(4, np.float32),
        "p": np.zeros(8, np.int8),
        "y": np.zeros(4, np.float32),
    }
    with pytest.raises(IRError) as caught:
        run_kernel(parse_kernel(text), arrays, {})
    message = str(caught.value)
    assert "kernel k: index [" in message
    assert "is outside" in message
    assert f"in: {statement}" in message


def test_a_border_may_be_read_and_is_zero() -> None:
    text = "kernel k(in x: float32[2] border(1:1), out y: float32[4]) { for i in 4 { y[i] = x[i - 1] } }"
    y = np.zeros(4, np.float32)
    run_kernel(parse_kernel(text), {"x": np.array([1, 2], np.float32), "y": y}, {})
    np.testing.assert_array_equal(y, [0, 1, 2, 0])


def test_a_select_guards_its_loads() -> None:
    y = elementwise("select(0 < i, x[i - 1], 0.0)", "float32", "float32", np.arange(3.0))
    np.testing.assert_array_equal(y, [0, 0, 1])


def test_packs_are_neighbours_in_memory() -> None:
    text = (
        "kernel k(in a: uint8[2, 4], in b: int8[4, 3] @(d1, d0), out y: int32[2, 3]) {"
        " for i in 2 { for j in 3 { y[i, j] = dot_u8s8(0i32, a[i, 0]x4, b[0, j]x4) } } }"
    )
    rng = np.random.default_rng(2)
    a = rng.integers(0, 256, (2, 4)).astype(np.uint8)
    b = rng.integers(-128, 128, (4, 3)).astype(np.int8)
    y = np.zeros((2, 3), np.int32)
    run_kernel(parse_kernel(text), {"a": a, "b": b, "y": y}, {})
    np.testing.assert_array_equal(y, a.astype(np.int32) @ b.astype(np.int32))


def test_bfloat16_packs_accumulate_in_float32() -> None:
    text = "kernel k(in a: bfloat16[2], out y: float32[1]) { y[0] = dot_bf16(0.5, a[0]x2, a[0]x2) }"
    y = np.zeros(1, np.float32)
    run_kernel(parse_kernel(text), {"a": np.array([2, 3], ml_dtypes.bfloat16), "y": y}, {})
    assert y[0] == 13.5


def test_more_loops_than_python_nests() -> None:
    value: Expr = Const(0, INDEX)
    for d in range(25):
        value = Binary("+", value, Var(f"i{d}"))
    body: tuple[Any, ...] = (Store("y", (Const(0, INDEX),), value),)
    for d in reversed(range(25)):
        body = (For(f"i{d}", Const(1 + (d in (3, 20)), INDEX), body),)
    y = np.zeros(1, np.int64)
    kernel = Kernel("deep", (Buffer("y", DType.int64, (1,), role=Role.out),), body)
    run_kernel(kernel, {"y": y}, {})
    assert y[0] == 2


def test_expressions_deeper_than_python_parses() -> None:
    value: Expr = Load("x", (Const(0, INDEX),), DType.float32)
    for _ in range(400):
        value = Binary("+", value, Const(1.0, DType.float32))
    x = Buffer("x", DType.float32, (1,), role=Role.in_)
    out = Buffer("y", DType.float32, (1,), role=Role.out)
    y = np.zeros(1, np.float32)
    kernel = Kernel("tall", (x, out), (Store("y", (Const(0, INDEX),), value),))
    run_kernel(kernel, {"x": np.zeros(1, np.float32), "y": y}, {})
    assert y[0] == 400


def test_a_prepared_kernel_runs_again_and_again() -> None:
    kernel = parse_kernel("kernel k(inout y: int32[N]) { for i in N { y[i] = y[i] + 1i32 } }")
    run = prepare(kernel, {"N": 2})
    memory = {"y": pack(np.array([1, 2], np.int32), kernel.params[0], {"N": 2})}
    run(memory)
    run(memory)
    np.testing.assert_array_equal(memory["y"], [3, 4])


def test_missing_symbols_and_arrays_are_named() -> None:
    kernel = parse_kernel("kernel k(out y: float32[N]) { }")
    with pytest.raises(IRError, match="kernel k: no value for N"):
        run_kernel(kernel, {"y": np.zeros(1, np.float32)}, {})
    with pytest.raises(IRError, match="kernel k: no array for parameter y"):
        run_kernel(kernel, {}, {"N": 1})


@pytest.mark.parametrize("value", ["1 // x[i]", "1 % x[i]"])
def test_a_division_by_zero_is_an_error(value: str) -> None:
    with pytest.raises(IRError, match=r"kernel k: integer .* by zero"):
        elementwise(value, "int64", "int64", np.zeros(1))
