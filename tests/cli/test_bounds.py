"""What is named as a kernel's bound, for kernels and machines of which it is known."""

from __future__ import annotations

import numpy as np

from convc.cli.bounds import Bandwidths, bandwidths, bound_of, read_kernel
from convc.loops.interp import run_kernel
from convc.program.ir import Program
from convc.program.parser import parse_program
from convc.target import TARGETS

MACHINE = TARGETS["x86-64-avx2"]
SPEEDS = Bandwidths(l2=100e9, l3=50e9, memory=10e9)

TEXT = """program p {{
  input "x": {x}*N bytes
  weight "w": {w} bytes
  output "y": {y}*N bytes
  entry predict(x: float32[N, {xn}] in "x") -> (y: float32[N, {yn}] in "y") {{
    k("x", "w", "y")
  }} }}
kernel k(in x: float32[N, {xn}], in w: float32[{wn}] constant, out y: float32[N, {yn}]) {{
  {notes}
  for n in N {{ for i in {yn} {{ y[n, i] = {value} }} }} }}"""


def program(x: int, w: int, y: int, value: str = "w[0] * x[n, 0]", notes: str = "") -> Program:
    """x, w and y are numbers of elements."""
    text = TEXT.format(
        x=4 * x, w=4 * w, y=4 * y, xn=x, wn=w, yn=y, value=value, notes=notes
    )  # fmt: skip
    return parse_program(text, weights={"w": np.zeros(w, np.float32)})


def bound(p: Program, seconds: float, share: float = 0.3, batch: int = 1) -> str:
    step = p.entries[0].steps[0]
    plain = p.kernels["k"]
    return bound_of(p, step, plain, {"N": batch}, seconds, share, SPEEDS, MACHINE)


def test_a_kernel_near_the_peak_has_no_bound() -> None:
    assert bound(program(8, 8, 8), 1e-3, share=0.7) == ""


def test_the_roof_is_where_most_bytes_come_from() -> None:
    large = 32 << 20  # elements: memory
    assert bound(program(8, large, 8), 4 * large / 10e9 * 1.5) == "weights from memory"
    middle = 1 << 20
    assert bound(program(middle, 8, 8), 4 * middle / 50e9 * 1.5) == "maps in L3"
    small = 1 << 16
    assert bound(program(small, 8, small), 8 * small / 100e9 * 1.5) == "maps in L2"
    assert bound(program(small, 8, small), 8 * 16 * small / 50e9 * 1.5, batch=16) == "maps in L3"


def test_without_a_roof_it_is_what_the_kernel_does() -> None:
    assert bound(program(8, 8, 8), 1e-6) == "latency"
    assert bound(program(8, 8, 8, "exp(x[n, i])"), 1e-3) == "functions"
    tiled = 'note "strategy" "tiled" note "tile" "14x2x16"'
    assert bound(program(8, 8, 24, notes=tiled), 1e-3) == "few channels"
    assert bound(program(8, 8, 64, notes=tiled), 1e-3) == "loads and stores"


def test_the_kernel_that_measures_memory_reads_all_of_it() -> None:
    x = np.random.default_rng(0).normal(size=(5, 8, 4)).astype("f4")
    y = np.zeros((8, 4), np.float32)
    run_kernel(read_kernel(4, 5), {"x": x, "y": y}, {})
    np.testing.assert_allclose(y, x.sum(0), rtol=1e-5)


def test_bandwidths_are_plausible() -> None:
    found = bandwidths()
    assert 1e9 < found.memory < 1e12
    assert min(found.l2, found.l3) > 1e9
    assert found.memory < 2 * found.l2
