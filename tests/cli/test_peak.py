"""The peak kernel does what it counts, on this machine and in the interpreter."""

from __future__ import annotations

import numpy as np

from convc.cli.bench import share_text
from convc.cli.peak import fma_kernel, fma_peak
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


def test_no_share_is_past_the_peak() -> None:
    assert share_text(0.734) == "73%"
    assert share_text(1.004) == "≥ 100 % (peak measured on a busy machine)"
