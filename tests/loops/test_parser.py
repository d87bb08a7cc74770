from __future__ import annotations

import pytest

from convc.errors import IRError
from convc.loops.ir import INDEX, Barrier, Let, Load, Store, Var
from convc.loops.parser import parse_expr, parse_kernel
from convc.types import DType


def in_kernel(body: str) -> str:
    return f"kernel k(in x: float32[N, 4], out y: float32[N, 4]) {{\n{body}\n}}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y[0, 0] = z", "line 2, column 11: unknown name 'z'"),
        ("y[0, 0] = z[1]", "unknown buffer 'z'"),
        ("y[0, 0] = sinus(1.0)", "unknown function 'sinus'"),
        ("y[0, 0] = fma(1.0, 2.0)", "fma: expected 3 operands, got 2"),
        ("y[0, 0] = sqrt(1)", "sqrt: expected a float, got int64"),
        ("y[0, 0] = bitcast(1.0, int64)", "bitcast: expected a dtype of 4 bytes"),
        ("y[0, 0] = select(true, 1.0)", "select: expected 3 operands, got 2"),
        ("y[0, 0] = 1.5i32", "'1.5i32' is not an integer"),
        ("y[0, 0] = 1.5f7", "unknown literal '1.5f7'"),
        ("y[0, 0] = -x[0, 0]", "a minus sign stands before numbers only"),
        ("y[0, 0] = select(1 < 2 < 3, 1.0, 2.0)", "comparisons don't chain"),
        ("for i in 4 sideways { }", "unknown kind of loop 'sideways'"),
        ("let a: int32 = 1.0", "a is int32, its value float32"),
        ("alloc t: float32[4] 3", "expected a space"),
        ("alloc t: float33[4] stack", "unknown dtype 'float33'"),
        ("alloc t: float32[4] @(d1) stack", "expected an axis d0 … d0, got 'd1'"),
        ("alloc t: float32[4] border(1:1, 0:0) stack", "expected 1 borders, got 2"),
        ("if true { let a: float32 = 1.0 } y[0, 0] = a", "unknown name 'a'"),
        ("for i in 4 { } y[i, 0] = 1.0", "unknown name 'i'"),
        ("jump", "expected a statement, got 'jump'"),
        ("y[0, 0 = 1.0", "expected ',', got '='"),
    ],
)
def test_an_error_names_what_is_wrong_and_where(body: str, message: str) -> None:
    with pytest.raises(IRError, match=r"kernel text, line 2, column \d+: ") as caught:
        parse_kernel(in_kernel(body))
    assert message in str(caught.value)


def test_text_after_the_kernel_is_an_error() -> None:
    with pytest.raises(IRError, match="expected the end, got 'kernel'"):
        parse_kernel(in_kernel("") + " kernel")


def test_a_width_touches_its_bracket() -> None:
    text = "kernel k(in w: int8[8], inout x4: int32[1]) { let a: int8 = w[0]\n x4[0] = 1i32 }"
    first, second = parse_kernel(text).body
    assert first == Let("a", Load("w", parse_index(0), DType.int8))
    assert isinstance(second, Store)
    packs = {"w": DType.int8}
    assert parse_expr("w[i]x4", buffers=packs) == Load("w", (Var("i"),), DType.int8, 4)


def parse_index(value: int) -> tuple[Load, ...]:
    return (parse_expr(str(value)),)  # type: ignore[return-value]


def test_comments_are_no_part_of_a_kernel() -> None:
    kernel = parse_kernel(in_kernel("# y[0, 0] = 1.0\nbarrier # all"))
    assert kernel.body == (Barrier(),)


def test_buffers_may_be_called_like_keywords() -> None:
    kernel = parse_kernel("kernel k(in in: float32[1], out let: float32[1]) { let[0] = in[0] }")
    (store,) = kernel.body
    assert store == Store("let", parse_index(0), Load("in", parse_index(0), DType.float32))


def test_a_reduction_is_told_from_a_buffer_of_its_name() -> None:
    loaded = parse_expr("sum[i]", buffers={"sum": DType.float32})
    assert loaded == Load("sum", (Var("i"),), DType.float32)
    assert parse_expr("sum[c: 3](c)").dtype is INDEX
