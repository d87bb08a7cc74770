"""The peak kernel does what it counts, on this machine and in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from convc.cli.bench import share_text
from convc.cli.peak import fma_kernel, fma_peak, rate
from convc.loops.interp import run_kernel
from convc.loops.printer import print_kernel


def test_the_kernel_is_independent_chains_of_fma() -> None:
    kernel = fma_kernel(lanes=4, chains=2, steps=3)
    assert print_kernel(kernel).count("fma(") == 1
    y = np.zeros((2, 4), np.float32)
    run_kernel(kernel, {"factor": np.full(1, 0.5, np.float32), "y": y}, {})
    # 1 -> 1 * .5 + .5 = 1, a fixed point: the numbers neither grow nor become denormal.
    np.testing.assert_array_equal(y, 1)


def test_the_peak_is_plausible() -> None:
    assert 1e9 < fma_peak(1) < 1e12


def test_threads_that_begin_a_little_apart_have_the_sum_of_their_speeds() -> None:
    assert rate([(0.0, 0.5)]) == 2
    assert rate([(0.0, 0.5), (0.02, 0.52)]) == pytest.approx(4)
    assert rate([(0.0, 0.5), (0.01, 0.51), (0.02, 0.515)]) == pytest.approx(4 + 1 / 0.495)


def test_threads_that_wait_for_a_cpu_have_no_speeds_of_their_own() -> None:
    assert rate([(0.0, 0.5), (0.5, 1.0)]) == 2
    assert rate([(0.0, 0.5), (0.1, 0.6)]) == pytest.approx(2 / 0.6)
    assert rate([(0.0, 0.5), (0.0, 1.0)]) == 2  # half of the second alone


def test_no_share_is_past_the_peak() -> None:
    assert share_text(0.734) == "73%"
    assert share_text(1.004) == "≥ 100 % (peak measured on a busy machine)"
