"""What kernels compute and move, counted from their loops."""

from __future__ import annotations

import pytest

from convc.errors import IRError
from convc.loops.cost import bytes_touched, extent_of, flops
from convc.loops.ir import INDEX, Var, binary, const
from convc.loops.parser import parse_kernel
from convc.types import Dim

N = Dim.symbol("N")

PRODUCT = """
kernel product(in x: float32[N, 8], in w: float32[8, 4], out y: float32[N, 4]) {
  for n in N {
    for o in 4 {
      alloc s: float32[] register
      s[] = 0.0
      for c in 8 {
        s[] = fma(x[n, c], w[c, o], s[])
      }
      y[n, o] = max(s[] / 2.0, 0.0)
    }
  }
}
"""


def test_a_product_counts_two_per_multiply_add_and_its_epilogue() -> None:
    assert flops(parse_kernel(PRODUCT)) == N * 4 * (2 * 8 + 1)


def test_index_arithmetic_does_not_count() -> None:
    text = "kernel k(in x: float32[9], out y: float32[4]) { for i in 4 { y[i] = x[i*2 + 1] } }"
    assert flops(parse_kernel(text)) == 0


def test_both_sides_of_a_condition_count() -> None:
    text = """kernel k(in x: float32[4], out y: float32[4]) {
      for i in 4 { if i < 2 { y[i] = x[i] + x[i] } else { y[i] = x[i] * x[i] - x[i] } } }"""
    assert flops(parse_kernel(text)) == 4 * 3


def test_bytes_are_those_of_the_logical_boxes() -> None:
    assert bytes_touched(parse_kernel(PRODUCT)) == 4 * (N * 8 + 32 + N * 4)


def test_extents_are_polynomials_or_refused() -> None:
    assert (
        extent_of(binary("+", binary("*", Var("N"), const(3, INDEX)), const(1, INDEX))) == N * 3 + 1
    )
    with pytest.raises(IRError, match="no polynomial"):
        extent_of(binary("%", Var("N"), const(3, INDEX)))
