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


NORMALISED = """
kernel conv(in x: float32[N, 8, 14, 14], in s: float32[8], in w: float32[4, 8, KERNEL, KERNEL],
            out y: float32[N, 4, 14, 14]) {
  for n in N { for o in 4 { for i in 14 { for j in 14 {
    alloc a: float32[] register
    a[] = 0.0
    for c in 8 { for r in KERNEL { for q in KERNEL {
      a[] = fma(select((0 <= i + r - BEFORE) & (i + r - BEFORE < 14) & (0 <= j + q - BEFORE) & (j + q - BEFORE < 14),
                       max(x[n, c, i + r - BEFORE, j + q - BEFORE] * s[c], 0.0), 0.0), w[o, c, r, q], a[])
    } } }
    y[n, o, i, j] = a[]
  } } } }
}
"""


@pytest.mark.parametrize("size", [1, 3])
def test_a_producer_counts_once_per_element_of_what_it_reads(size: int) -> None:
    text = NORMALISED.replace("KERNEL", str(size)).replace("BEFORE", str(size // 2))
    products = N * 14 * 14 * 4 * 8 * size * size
    assert flops(parse_kernel(text)) == products * 2 + N * 8 * 14 * 14


def test_a_sum_of_products_counts_each_product() -> None:
    text = """kernel k(in x: float32[5, 8], in w: float32[8, 4], out y: float32[5, 4]) {
      for n in 5 { for o in 4 {
        alloc s: float32[] register
        s[] = 0.0
        for c in 8 { s[] = s[] + x[n, c] * w[c, o] }
        y[n, o] = s[]
      } } }"""
    assert flops(parse_kernel(text)) == 5 * 4 * 8 * 2


def test_work_on_named_values_counts_in_every_iteration() -> None:
    text = """kernel k(in x: float32[8], out y: float32[4, 8]) {
      for i in 4 { for j in 8 { let d: float32 = x[j] y[i, j] = d + d } } }"""
    assert flops(parse_kernel(text)) == 4 * 8


def test_copies_and_borders_count_nothing() -> None:
    text = """kernel k(in x: float32[4], out y: float32[4] border(1:1)) {
      for i in 4 { y[i] = x[i] } for i in 1 { y[i - 1] = 0.0 } for i in 1 { y[i + 4] = 0.0 } }"""
    assert flops(parse_kernel(text)) == 0


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
