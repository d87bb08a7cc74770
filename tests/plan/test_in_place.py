"""Results written over a dying operand: when they may be, and that the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

import convc.ops  # noqa: F401  (registers the operators)
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.loops.parser import parse_kernel
from convc.lower.program import lower
from convc.ops.activations import Relu, Silu
from convc.ops.broadcasting import Add
from convc.ops.conv import Conv2d
from convc.plan.in_place import reuse_in_place
from convc.plan.memory import plan_memory
from convc.program.interp import run_program
from convc.program.ir import Program
from convc.program.replacing import replaceable
from convc.program.verify import verify_program
from convc.schedule.program import schedule
from convc.target import TARGETS
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")
TARGET = TARGETS["x86-64-avx2"]


def residual(width: int, reads_later: bool) -> Graph:
    """a = relu(conv(x)); b = conv(a); y = relu(conv(b) + a), and a once more if asked."""
    rng = np.random.default_rng(0)
    builder = Builder("residual")
    x = builder.input("x", TensorType(DType.float32, (N, 8, 4, width)))

    def conv(value: str) -> str:
        weight = rng.standard_normal((8, 8, 1, 1)).astype(np.float32) / 3
        return builder.add(Conv2d(), value, builder.weight("w", weight))

    a = builder.add(Relu(), conv(x))
    b = builder.add(Silu(), conv(a))
    c = builder.add(Relu(), builder.add(Add(), conv(b), a))
    d = builder.add(Silu(), conv(c))
    return builder.finish((builder.add(Add(), conv(d), a if reads_later else d),))


def scheduled(graph: Graph) -> Program:
    return schedule(lower({"predict": graph}), TARGET)


@pytest.mark.parametrize("reads_later", [False, True])
@pytest.mark.parametrize("width", [5, 6])
def test_numbers_stay_and_the_plan_verifies(width: int, reads_later: bool) -> None:
    graph = residual(width, reads_later)
    program = plan_memory(scheduled(graph))
    verify_program(program)
    x = np.random.default_rng(1).standard_normal((2, 8, 4, width)).astype(np.float32)
    got = run_program(program, {"x": x}, {"N": 2})
    want = run_graph(graph, {"x": x}, dtype=DType.float64)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]


def test_a_residual_that_dies_is_written_over() -> None:
    # 20 pixels are whole tiles: the last one doesn't begin early, on what is written already.
    program = scheduled(residual(5, reads_later=False))
    shared = reuse_in_place(program)
    assert len(shared.regions) < len(program.regions)
    assert any(
        s.args[-1].region in [a.region for a in s.args[:-1]] for s in shared.entries[0].steps
    )


def test_a_residual_that_is_read_later_is_not() -> None:
    program = reuse_in_place(scheduled(residual(8, reads_later=True)))
    steps = program.entries[0].steps
    reads = [a.region for s in steps for a in s.args[:-1]]
    relu = steps[0].args[-1].region
    assert reads.count(relu) == 3
    assert [s.args[-1].region for s in steps].count(relu) == 1


KERNEL = """kernel k(in x: float32[8], in z: float32[8], in p: int64[8], out y: float32[8]) {{
  for i in 8 {{
    y[{store}] = x[{load}] + z[i]
  }}
}}"""


@pytest.mark.parametrize(
    ("store", "load", "operands"),
    [
        ("i", "i", (0, 1)),
        ("i", "7 - i", (1,)),  # reads an element that another iteration has replaced
        ("min(i, 6)", "min(i, 6)", ()),  # replaces an element that it reads again
        ("p[i]", "p[i]", ()),  # so may this, where p has a number twice
        ("(i + p[i]) % 8", "(i + p[i]) % 8", ()),
        ("i // 2", "i // 2", ()),  # two iterations store to one element
        ("i * 5 % 8", "i * 5 % 8", ()),  # none does, but that doesn't show
    ],
)
def test_only_what_is_read_to_be_replaced_counts(
    store: str, load: str, operands: tuple[int, ...]
) -> None:
    kernel = parse_kernel(KERNEL.format(store=store, load=load))
    assert tuple(x for x, _ in replaceable(kernel)) == operands


SIBLINGS = """kernel k(in x: float32[64], out y: float32[64]) {{
  for o in 4 {{
    for i in {first} {{
      y[o * 16 + i] = x[o * 16 + i] * 2.0
    }}
    for j in 4 {{
      y[{second}] = {value}
    }}
  }}
}}"""


@pytest.mark.parametrize(
    ("first", "second", "value", "pairs"),
    [
        (12, "o * 16 + 12 + j", "x[o * 16 + 12 + j]", ((0, 1),)),  # a peeled tail
        (13, "o * 16 + 12 + j", "x[o * 16 + 12 + j]", ()),  # reads what the first loop has replaced
        (16, "o * 16 + j", "y[o * 16 + j] + x[o * 16 + j]", ()),
        (16, "o * 16 + j", "y[o * 16 + j] + 1.0", ((0, 1),)),  # reads what it has become
    ],
)
def test_what_another_loop_has_replaced_is_not_read_again(
    first: int, second: str, value: str, pairs: tuple[tuple[int, int], ...]
) -> None:
    kernel = parse_kernel(SIBLINGS.format(first=first, second=second, value=value))
    assert replaceable(kernel) == pairs
