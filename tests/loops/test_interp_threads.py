from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.interp import run_kernel
from convc.loops.parser import parse_kernel

REVERSE = """
kernel reverse(in x: float32[64], out y: float32[64]) {
  for b in 2 block_x {
    alloc t: float32[32] shared
    for i in 8 thread_x { for j in 4 thread_y {
      t[j * 8 + i] = x[b * 32 + j * 8 + i]
      BARRIER
      y[b * 32 + j * 8 + i] = t[31 - (j * 8 + i)]
    } }
  }
}
"""
X = np.arange(64, dtype=np.float32)
REVERSED = X.reshape(2, 32)[:, ::-1].reshape(64)


def run(text: str, seed: int | None = None) -> NDArray[np.float32]:
    y = np.zeros(64, np.float32)
    run_kernel(parse_kernel(text), {"x": X, "y": y}, {}, seed)
    return y


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_threads_meet_at_barriers_in_any_order(seed: int | None) -> None:
    np.testing.assert_array_equal(run(REVERSE.replace("BARRIER", "barrier"), seed), REVERSED)


def test_without_the_barrier_threads_read_what_nobody_wrote() -> None:
    assert np.isnan(run(REVERSE.replace("BARRIER", ""))).any()


def test_a_warp_barrier_joins_one_warp() -> None:
    text = """
    kernel pairs(in x: float32[64], out y: float32[64]) {
      alloc t: float32[64] shared
      for i in 64 thread_x {
        t[i] = x[i]
        if i < 32 { barrier(warp) y[i] = t[31 - i] } else { y[i] = 0.0 }
      }
    }
    """
    np.testing.assert_array_equal(run(text, 5)[:32], X[31::-1])


def test_a_collective_instruction_runs_once_for_its_warp() -> None:
    text = """
    kernel swap(in x: float32[64], out y: float32[64]) {
      for i in 64 thread_x {
        alloc a: float32[1] register
        alloc b: float32[1] register
        a[0] = x[i]
        do shuffle_xor_1(b[0 +: 1], a[0 +: 1])
        y[i] = b[0]
      }
    }
    """
    np.testing.assert_array_equal(run(text, 7), X.reshape(32, 2)[:, ::-1].reshape(64))


def test_a_barrier_that_some_threads_never_reach_is_an_error() -> None:
    text = """
    kernel bad(in x: float32[64], out y: float32[64]) {
      for i in 64 thread_x { if i < 3 { barrier } y[i] = x[i] }
    }
    """
    with pytest.raises(IRError, match="barrier: 3 threads wait, 61 have ended"):
        run(text)


def test_threads_of_a_warp_in_different_places_are_an_error() -> None:
    text = """
    kernel bad(in x: float32[64], out y: float32[64]) {
      for i in 32 thread_x {
        alloc a: float32[1] register
        a[0] = x[i]
        if i < 3 { do shuffle_xor_1(a[0 +: 1], a[0 +: 1]) } else { barrier }
        y[i] = a[0]
      }
    }
    """
    with pytest.raises(IRError, match="threads wait for one another in different places: barrier"):
        run(text)


def test_a_collective_instruction_needs_threads() -> None:
    text = """
    kernel bad(in x: float32[64], out y: float32[64]) {
      alloc a: float32[1] register
      do shuffle_xor_1(a[0 +: 1], a[0 +: 1])
    }
    """
    with pytest.raises(IRError, match="shuffle_xor_1 is executed by 32 threads, there are none"):
        run(text)
