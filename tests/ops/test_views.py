"""The facet `view`: what an operator says of its output's memory is what its reference computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import numpy as np
import pytest

from convc.graph.view import Joined, Part, Permuted, Reshaped, View
from convc.types import evaluate
from tests.ops.cases import CASES
from tests.ops.cases.case import Case
from tests.ops.test_every_operator import reference


@pytest.mark.parametrize("case", [c for c in CASES if c.op.view], ids=lambda c: c.name)
def test_a_view_shows_the_output(case: Case) -> None:
    assert case.op.view is not None
    view = case.op.view(*case.types)
    if view is None:
        pytest.skip("this output is no view")
    arrays = case.arrays()
    expected: Any = reference(case, arrays)
    np.testing.assert_array_equal(shown(view, arrays, expected.shape, case.symbols), expected)


def shown(
    view: View, arrays: tuple[Any, ...], shape: tuple[int, ...], symbols: Mapping[str, int]
) -> Any:
    match view:
        case Permuted(perm):
            return arrays[0].transpose(perm)
        case Reshaped():
            return arrays[0].reshape(shape)
        case Part(starts):
            first = [evaluate(s, symbols) for s in starts]
            return arrays[0][tuple(slice(f, f + e) for f, e in zip(first, shape, strict=True))]
        case Joined(axis):
            return np.concatenate(arrays, axis)
        case _:
            assert_never(view)
