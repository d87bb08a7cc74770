"""The program interpreter: what it computes, and that stale or unwritten bytes show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convc.errors import DataError, IRError
from convc.program.interp import run_program
from tests.program.programs import TEXT, parsed, two_layers

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def expected(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x + 1, ((0, 0), (1, 1)))
    return (padded[:, :-2] + padded[:, 2:]) * np.array([1, 2, 3, 4], np.float32)


def test_a_program_runs_step_by_step() -> None:
    result = run_program(two_layers(), {"x": X}, {"N": 3})
    assert list(result) == ["y"]
    np.testing.assert_array_equal(result["y"], expected(X))
    one = run_program(two_layers(), {"x": X[:1]}, {"N": 1})
    np.testing.assert_array_equal(one["y"], expected(X[:1]))


def test_regions_without_a_plan_get_memory_of_their_own() -> None:
    program = two_layers()
    program = replace(
        program, regions=tuple(replace(r, offset=None) for r in program.regions), arena=0
    )
    np.testing.assert_array_equal(run_program(program, {"x": X}, {"N": 3})["y"], expected(X))


def test_unwritten_memory_is_nan() -> None:
    program = parsed(TEXT.replace('edge("t")\n', "", 1))
    y = run_program(program, {"x": X}, {"N": 3})["y"]
    np.testing.assert_array_equal(np.isnan(y), [[True, False, False, True]] * 3)
    clean = run_program(program, {"x": X}, {"N": 3}, poison=False)["y"]
    np.testing.assert_array_equal(clean, expected(X))


def test_a_plan_that_shares_living_bytes_gives_other_numbers() -> None:
    text = TEXT.replace('weight "w"', 'arena "u": 24*N bytes at 0\n  weight "w"')
    text = text.replace('copy("x", "t")', 'copy("x", "t") edge("u") copy("t" + 4, "u")')
    text = text.replace("in x: float32[N, 4],", "in x: float32[N, 4] @(d0, d1:6),")
    text = text.replace('copy("x", "t") edge', 'first("x", "t") edge') + (
        "kernel first(in x: float32[N, 4], out t: float32[N, 4] @(d0, d1) border(0:0, 1:1)) {"
        " for n in N { for i in 4 { t[n, i] = x[n, i] + 1.0 } } }"
    )
    apart = text.replace('"u": 24*N bytes at 0', '"u": 24*N bytes at 32*N')
    np.testing.assert_array_equal(run_program(parsed(apart), {"x": X}, {"N": 3})["y"], expected(X))
    assert not np.array_equal(run_program(parsed(text), {"x": X}, {"N": 3})["y"], expected(X))


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"input 'x' of float32\[N, 4\] is missing"):
        run_program(two_layers(), {}, {"N": 3})
    with pytest.raises(DataError, match=r"input 'x' expects float32\[2, 4\], got float32\[3, 4\]"):
        run_program(two_layers(), {"x": X}, {"N": 2})
    with pytest.raises(IRError, match="there is no entry 'train': expected predict"):
        run_program(two_layers(), {"x": X}, {"N": 3}, entry="train")
