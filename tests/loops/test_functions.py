from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.errors import IRError
from convc.loops import scalars
from convc.loops.functions import FUNCTIONS, fma, fma_float32, result_dtype, round_to
from convc.types import DType

F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def nearest(exact: Fraction, dtype: DType) -> float:
    """A fraction rounded to nearest even, by comparing it with its two neighbours' middle."""
    guess = round_to(float(exact), dtype)
    candidates = [guess, *(np.nextafter(guess, dtype.numpy.type(s)) for s in (-np.inf, np.inf))]
    finite = [c for c in candidates if np.isfinite(c)]
    best = min(abs(Fraction(float(c)) - exact) for c in finite)
    ties = [c for c in finite if abs(Fraction(float(c)) - exact) == best]
    return float(
        next((c for c in ties if not int(np.asarray(c).view(f"u{dtype.itemsize}")) & 1), ties[0])
    )


@settings(max_examples=300, deadline=None)
@given(F32, F32, F32, st.integers(-3, 3))
def test_fma_rounds_once(a: float, b: float, c: float, nudge: int) -> None:
    near_cancel = float(np.float32(-a * b)) if abs(a * b) < 1e38 else c
    for addend in (c, near_cancel, float(np.float32(2.0**nudge))):
        exact = Fraction(a) * Fraction(b) + Fraction(addend)
        if exact == 0 or abs(exact) > 3.4e38:
            continue
        operands = [np.float32(v) for v in (a, b, addend)]
        expected = nearest(exact, DType.float32)
        assert float(fma_float32(*operands)) == expected
        assert float(fma(*operands)) == expected


def test_fma_decides_ties_by_what_lies_beyond_float64() -> None:
    one = np.float32(1 + 2.0**-12)
    up, down = np.float32(2.0**-80), np.float32(-(2.0**-80))
    above = np.float32(1 + 2.0**-11 + 2.0**-23)
    assert (fma_float32(one, one, up), fma(one, one, up)) == (above, above)
    below = np.float32(1 + 2.0**-11)
    assert (fma_float32(one, one, down), fma(one, one, down)) == (below, below)


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [(math.inf, 0.0, 1.0), (math.inf, 1.0, -math.inf), (math.nan, 1.0, 1.0)],
)
def test_fma_of_float64_keeps_nan(a: float, b: float, c: float) -> None:
    with np.errstate(all="ignore"):
        assert math.isnan(fma(np.float64(a), np.float64(b), np.float64(c)))


def test_fma_of_float64_is_exact() -> None:
    a = 1 + 2.0**-30
    assert fma(np.float64(a), np.float64(a), np.float64(-(a * a))) == 2.0**-60


def test_bfloat16_rounds_once_from_float64() -> None:
    between = 1 + 2.0**-8  # half way between two bfloat16
    assert float(round_to(between, DType.bfloat16)) == 1
    assert float(round_to(between + 2.0**-40, DType.bfloat16)) == 1 + 2.0**-7
    assert np.isinf(round_to(1e300, DType.bfloat16))
    assert np.isnan(round_to(math.nan, DType.bfloat16))


@pytest.mark.parametrize("dtype", [DType.float32, DType.float16, DType.bfloat16, DType.float64])
def test_functions_keep_the_dtype_and_agree_with_the_scalars(dtype: DType) -> None:
    for function in FUNCTIONS.values():
        if function.kind != "float" or function.arity != 1:
            continue
        number = 1.25 if function.name == "acosh" else 0.75
        x = np.array([number]).astype(dtype.numpy)
        values = function.meaning(x)
        assert values.dtype == dtype.numpy, function.name
        scalar = scalars.function(function.name, dtype, [dtype])
        assert float(scalar(*scalars.to_list(x, dtype))) == float(values[0]), function.name


def test_round_is_half_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5], np.float32)
    np.testing.assert_array_equal(FUNCTIONS["round"].meaning(x), [0, 2, 2, -0.0])


def test_integer_dots_add_four_products_and_wrap() -> None:
    a, b = np.array([255, 255, 1, 0], np.uint8), np.array([127, -128, 3, 9], np.int8)
    assert FUNCTIONS["dot_u8s8"].meaning(np.int32(10), a, b) == 10 + 255 * -1 + 3
    largest = np.int32(2**31 - 1)
    dot = scalars.function("dot_u8s8", DType.int32, [DType.int32, DType.uint8, DType.int8])
    assert dot(int(largest), [1, 0, 0, 0], [1, 0, 0, 0]) == -(2**31)
    assert FUNCTIONS["dot_u8s8"].meaning(
        largest, np.array([1, 0, 0, 0]), np.array([1, 0, 0, 0])
    ) == -(2**31)


def test_the_bfloat16_dot_adds_the_odd_element_first() -> None:
    kind = ml_dtypes.bfloat16
    a, b = np.array([1, 2.0**60], kind), np.array([1, 1], kind)
    acc = np.float32(-(2.0**60))
    assert FUNCTIONS["dot_bf16"].meaning(acc, a, b) == 1
    assert scalars.function("dot_bf16", DType.float32, [])(acc, list(a), list(b)) == 1


@pytest.mark.parametrize(
    ("name", "operands", "message"),
    [
        ("sinus", [(DType.float32, 1)], "unknown function 'sinus'"),
        ("fma", [(DType.float32, 1)], "fma: expected 3 operands, got 1"),
        ("exp", [(DType.int32, 1)], "exp: expected a float, got int32"),
        ("abs", [(DType.bool, 1)], "abs: expected a number, got bool"),
        ("pow", [(DType.float32, 1), (DType.float64, 1)], "pow: expected operands of one dtype"),
        ("exp", [(DType.float32, 4)], "exp: expected operands of one dtype|expected a float"),
        (
            "dot_u8s8",
            [(DType.int32, 1), (DType.int8, 4), (DType.int8, 4)],
            r"dot_u8s8: expected \(int32, uint8x4, int8x4\), got \(int32, int8x4, int8x4\)",
        ),
    ],
)
def test_operands_that_do_not_fit_are_named(
    name: str, operands: list[tuple[DType, int]], message: str
) -> None:
    with pytest.raises(IRError, match=message):
        result_dtype(name, operands)


@pytest.mark.parametrize("source", [DType.float64, DType.float32, DType.bfloat16])
def test_casts_to_integers_truncate_and_saturate(source: DType) -> None:
    cast = scalars.cast(source, DType.int8)
    values = [scalars.value_of(v, source) for v in (1.75, -1.75, 1000.0, -math.inf, math.nan)]
    assert [cast(v) for v in values] == [1, -1, 127, -128, 0]


def test_a_long_integer_becomes_float32_with_one_rounding() -> None:
    value = 2**60 + 2**36 + 1  # above a float32's middle, though float64 would lose the 1
    assert scalars.cast(DType.int64, DType.float32)(value) == np.float32(2**60 + 2**37)


@pytest.mark.parametrize(
    ("source", "target", "value"),
    [
        (DType.float32, DType.int32, np.float32(-1.5)),
        (DType.float64, DType.uint64, -1.5),
        (DType.bfloat16, DType.uint16, ml_dtypes.bfloat16(-1.5)),
        (DType.int8, DType.uint8, -1),
    ],
)
def test_bitcast_keeps_the_bits(source: DType, target: DType, value: float) -> None:
    there, back = scalars.bitcast(source, target), scalars.bitcast(target, source)
    expected = np.asarray(value, source.numpy).view(target.numpy)[()]
    assert there(value) == expected
    assert back(there(value)) == value
