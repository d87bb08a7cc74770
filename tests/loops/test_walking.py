"""What is kept with an expression is what a walk through it finds."""

from __future__ import annotations

import pytest

from convc.loops.ir import Expr, Var, index
from convc.loops.parser import parse_expr
from convc.loops.walking import subexpressions, substitute, variables
from convc.types import DType

TEXTS = (
    "7",
    "i",
    "j * 4 + i + j",
    "select(k < i, x[j, i + 1], 0.0) + x[i, i]",
    "fma(x[i, 0], y[k // 4, k % 4], max(x[j, 0], 0.5))",
)


def parsed(text: str) -> Expr:
    return parse_expr(text, buffers={"x": DType.float32, "y": DType.float32})


@pytest.mark.parametrize("text", TEXTS)
def test_variables_are_in_the_order_of_their_first_appearance(text: str) -> None:
    expr = parsed(text)
    found = [e.name for e in subexpressions(expr) if isinstance(e, Var)]
    assert variables(expr) == tuple(dict.fromkeys(found))
    assert variables(expr) == tuple(dict.fromkeys(found))  # as kept


@pytest.mark.parametrize("text", TEXTS)
def test_what_has_none_of_the_variables_stays_the_same_object(text: str) -> None:
    expr = parsed(text)
    assert substitute(expr, {"elsewhere": index(3)}) is expr
    assert substitute(expr, {}) is expr
    without = substitute(expr, {name: index(2) for name in variables(expr)})
    assert variables(without) == ()
