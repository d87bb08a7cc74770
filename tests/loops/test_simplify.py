"""The simplifier keeps the value of every index expression, and its bounds hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.loops.ir import INDEX, Binary, Call, Const, Expr, For, Select, Var, walk
from convc.loops.parser import parse_expr, parse_kernel
from convc.loops.printer import print_expr, print_kernel
from convc.loops.simplify import (
    bounds,
    from_linear,
    linear,
    linear_bounds,
    refine,
    simplify,
    simplify_kernel,
)
from convc.program.footprint import value
from convc.types import DType

RANGES: dict[str, tuple[float, float]] = {
    "i": (0, 5),
    "j": (0, 15),
    "k": (-3, 4),
    "N": (1, math.inf),
}
SAMPLES = {
    name: np.array(values, np.int64)
    for name, values in zip(
        RANGES,
        np.meshgrid(range(6), range(0, 16, 3), range(-3, 5), (1, 2, 7), indexing="ij"),
        strict=True,
    )
}


def numbers(low: int = -40, high: int = 40) -> st.SearchStrategy[Expr]:
    return st.integers(low, high).map(lambda n: Const(n, INDEX))


def deeper(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    ops = st.sampled_from(["+", "-", "*", "min", "max"])
    plain = st.builds(lambda op, a, b: Binary(op, a, b), ops, inner, inner)
    scaled = st.builds(lambda a, b: Binary("*", a, b), inner, numbers(-5, 17))
    divided = st.builds(
        lambda op, a, b: Binary(op, a, b), st.sampled_from(["//", "%"]), inner, numbers(1, 17)
    )
    chosen = st.builds(lambda c, a, b: Select(c, a, b), comparisons(inner), inner, inner)
    return plain | scaled | divided | divided | chosen


def comparisons(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    ops = st.sampled_from(["<", "<=", "==", "!="])
    return st.builds(lambda op, a, b: Binary(op, a, b), ops, inner, inner)


LEAVES = st.sampled_from([Var(n) for n in RANGES]) | numbers()
INTEGERS: st.SearchStrategy[Expr] = st.recursive(LEAVES, deeper, max_leaves=9)
CONDITIONS = comparisons(INTEGERS) | st.builds(
    lambda op, a, b: Binary(op, a, b),
    st.sampled_from(["&", "|"]),
    comparisons(INTEGERS),
    comparisons(INTEGERS),
)


def values_of(expr: Expr) -> Any:
    return np.broadcast_to(value(expr, SAMPLES), SAMPLES["i"].shape)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(INTEGERS | CONDITIONS)
def test_a_simplified_expression_has_the_same_values(expr: Expr) -> None:
    simple = simplify(expr, RANGES)
    np.testing.assert_array_equal(values_of(simple), values_of(expr), err_msg=print_expr(simple))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(INTEGERS)
def test_bounds_hold(expr: Expr) -> None:
    found = values_of(expr)
    for low, high in (bounds(expr, RANGES), linear_bounds(linear(expr), RANGES)):
        assert low <= found.min()
        assert found.max() <= high


@settings(max_examples=200, deadline=None, derandomize=True)
@given(INTEGERS)
def test_linear_forms_keep_the_value_and_are_canonical(expr: Expr) -> None:
    again = from_linear(linear(expr))
    np.testing.assert_array_equal(values_of(again), values_of(expr))
    assert linear(again) == linear(expr)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CONDITIONS)
def test_refined_ranges_hold_where_the_condition_does(condition: Expr) -> None:
    holds = values_of(condition)
    for name, (low, high) in refine(dict(RANGES), condition).items():
        inside = SAMPLES[name][holds]
        assert not inside.size or low <= inside.min()
        assert not inside.size or inside.max() <= high


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(16*i + j) // 16", "i"),
        ("(16*i + j) % 16", "j"),
        ("(i*32 + j + 3) // 4", "i * 8 + (j + 3) // 4"),
        ("(j // 4)*4 + j % 4", "j"),
        ("i + i - i", "i"),
        ("min(i, 7)", "i"),
        ("max(j - 20, k)", "k"),
        ("select(i < 6, i + 1, j)", "i + 1"),
        ("(i - 6) // 6", "-1"),
        ("N*3 - N - N - N", "0"),
    ],
)
def test_what_the_ranges_decide_is_decided(before: str, after: str) -> None:
    ranges = {**RANGES, "k": (-3, 4)}
    if "k" in before:
        ranges["j"] = (0, 16)
    assert print_expr(simplify(parse_expr(before), ranges)) == after


def test_guards_that_always_hold_go_and_loops_that_never_run() -> None:
    kernel = parse_kernel("""kernel k(in x: float32[N], out y: float32[N]) {
      for n in N { if (0 <= n) & (n < N) { y[n] = x[n] } for z in 0 { y[n] = 0.0 } if n < 0 { y[n] = 1.0 } } }""")
    text = print_kernel(simplify_kernel(kernel))
    assert "z" not in text
    assert "1.0" not in text
    assert [s.var for s in walk(simplify_kernel(kernel).body) if isinstance(s, For)] == ["n"]


def test_floats_are_left_alone() -> None:
    expr = parse_expr("a*0.0 + (b - b)", {"a": DType.float32, "b": DType.float32})
    assert simplify(expr, {}) == expr
    assert simplify(Call("sqrt", (expr,), DType.float32), {}) == Call(
        "sqrt", (expr,), DType.float32
    )
