"""Nests that operators wrote themselves: which loops become tasks and lanes, and that the bits stay."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import For, Kernel, LoopKind, walk
from convc.loops.parser import parse_kernel
from convc.schedule.cpu import schedule_kernel
from convc.schedule.own_nests import schedule_own_nest
from convc.target import TARGETS
from tests.codegen.native import RUNNABLE, assert_same_bits, run_native

PICK = "if x[n, i, 0] < 1.0 { for c in 3 { y[n, i, c] = x[n, i, c] * 2.0 } } else { for c in 3 { y[n, i, c] = 1.0 } }"


def kernel_of(
    statement: str, params: str = "in x: float32[5, 4, 3], out y: float32[5, 4, 3]"
) -> Kernel:
    return parse_kernel(f"kernel k({params}) {{ for n in 5 {{ for i in 4 {{ {statement} }} }} }}")


def kinds(kernel: Kernel) -> dict[str, LoopKind]:
    return {s.var: s.kind for s in walk(kernel.body) if isinstance(s, For)}


def test_rows_that_data_send_to_one_place_are_one_task() -> None:
    kernel = parse_kernel(
        "kernel k(in x: float32[8, 4], in p: int64[8], out y: float32[8, 4]) "
        "{ for i in 8 { for c in 4 { y[p[i], c] = x[i, c] } } }"
    )
    scheduled = schedule_kernel(kernel, TARGETS[RUNNABLE[-1]])
    assert LoopKind.parallel not in kinds(scheduled).values()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    p = np.array([0, 1, 1, 2, 2, 2, 5, 5])
    wanted = np.zeros((8, 4), np.float32)
    for i in range(8):
        wanted[p[i]] = x[i]
    arrays = {"x": x, "p": p, "y": np.zeros((8, 4), np.float32)}
    run_native(scheduled, TARGETS[RUNNABLE[-1]], arrays)
    assert_same_bits(arrays["y"], wanted)


def test_images_are_tasks_and_channels_lanes() -> None:
    kernel = kernel_of(PICK)
    target = TARGETS[RUNNABLE[-1]]
    scheduled = schedule_kernel(kernel, target)
    found = kinds(scheduled)
    assert (found["n"], found["i"]) == (LoopKind.parallel, LoopKind.serial)
    assert found["c"] is LoopKind.vectorized
    x = np.random.default_rng(0).uniform(0, 2, (5, 4, 3)).astype(np.float32)
    wanted, got = ({"x": x, "y": np.zeros((5, 4, 3), np.float32)} for _ in range(2))
    run_kernel(kernel, wanted, {})
    run_native(scheduled, target, got)
    assert_same_bits(got["y"], wanted["y"])


@pytest.mark.parametrize(
    "statement",
    [
        "if x[n, i, 0] < 1.0 { for c in 3 { y[n, i, c] = x[n, c, 0] } }",  # reads apart
        "if x[n, i, 0] < 1.0 { for c in 3 { y[n, i, 2 - c] = x[n, i, c] } }",  # writes backwards
        "if x[n, i, 0] < 1.0 { for c in 3 { y[n, i, c] = y[n, i, 0] } }",  # reads what it writes
        "for c in 3 { if x[n, i, c] < 1.0 { y[n, i, c] = 1.0 } }",  # does more than to store
    ],
)
def test_other_loops_stay(statement: str) -> None:
    assert kinds(schedule_own_nest(kernel_of(statement)))["c"] is LoopKind.serial


@pytest.mark.parametrize(
    "statement",
    [
        "if x[n, i, 0] < 1.0 { y[0, i, 0] = 1.0 }",  # every image writes the first
        "if x[n, i, 0] < 1.0 { y[n, i, 0] = 1.0 } else { y[i, n, 0] = 2.0 }",  # rows meet columns
        "if x[n, i, 0] < 1.0 { y[n, i, 0] = y[0, 0, 0] }",  # one image reads another's
    ],
)
def test_iterations_that_meet_are_one_task(statement: str) -> None:
    assert kinds(schedule_own_nest(kernel_of(statement)))["n"] is LoopKind.serial
