"""Indices that are said to be an iteration's own are, by counting; those of usual tilings are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.loops.distinct import are_apart, are_distinct
from convc.loops.ir import Expr, Store, Var, binary, index, walk
from convc.loops.parser import parse_kernel
from convc.program.footprint import value

EXTENTS = {"i": 4, "j": 3, "k": 2}


def distinct(at: tuple[Expr, ...], names: str) -> bool:
    ranges = {name: (0.0, EXTENTS[name] - 1.0) for name in names}
    return are_distinct(at, set(names), ranges, ())


def indices(at: str, names: str) -> tuple[Expr, ...]:
    loops = "".join(f"for {name} in {EXTENTS[name]} {{ " for name in names)
    rank = ", ".join(["64"] * (at.count(",") + 1))
    params = f"in p: int64[64], out y: float32[{rank}]"
    kernel = parse_kernel(f"kernel k({params}) {{ {loops} y[{at}] = 0.0 {'}' * len(names)} }}")
    (store,) = (s for s in walk(kernel.body) if isinstance(s, Store))
    return store.index


@pytest.mark.parametrize(
    ("at", "names"),
    [
        ("i, j", "ij"),
        ("j, i + 2", "ij"),
        ("i * 3 + j", "ij"),
        ("j * 4 + i", "ij"),
        ("7 - i * 2 - k", "ik"),
        ("i + j, j", "ij"),  # j is known from the second
        ("(i * 3 + j) // 4, (i * 3 + j) % 4", "ij"),
        ("(i * 3 + j) // 6, (i * 3 + j) // 2 % 3, (i * 3 + j) % 2", "ij"),
        ("i, p[i] + 64 * j, j", "ij"),
    ],
)
def test_tilings_are_distinct(at: str, names: str) -> None:
    assert distinct(indices(at, names), names)


@pytest.mark.parametrize(
    ("at", "names"),
    [
        ("i", "ij"),
        ("i // 2", "i"),
        ("i % 2", "i"),
        ("i * 2 + j", "ij"),
        ("i + j, i - j", "ij"),  # they are, which doesn't show
        ("min(i, 2)", "i"),
        ("p[i]", "i"),
        ("i + p[i]", "i"),
        ("(i * 3 + j) // 4, (i * 3 + j) % 3", "ij"),
    ],
)
def test_what_may_meet_is_not(at: str, names: str) -> None:
    assert not distinct(indices(at, names), names)


def test_symbols_are_fixed_and_the_first_digit_may_be_of_any_size() -> None:
    infinity = float("inf")
    at = (Var("t") * 8 + Var("j") + Var("N") * 2,)
    ranges = {"t": (0.0, infinity), "j": (0.0, 7.0), "N": (1.0, infinity)}
    assert are_distinct(at, {"t", "j"}, ranges, {"N"})
    assert not are_distinct(at, {"t", "j"}, ranges, ())


def positions() -> st.SearchStrategy[Expr]:
    leaves = st.sampled_from([Var("i"), Var("j"), index(1), index(2), index(3)])
    digits = st.builds(
        lambda a, b: Var("i") * a + Var("j") * b, st.integers(-5, 5), st.integers(-5, 5)
    )
    return digits | st.recursive(
        leaves | digits,
        lambda e: st.one_of(
            st.builds(binary, st.sampled_from(["+", "-", "min"]), e, e),
            st.builds(binary, st.sampled_from(["*", "//", "%"]), e, st.integers(1, 4).map(index)),
        ),
        max_leaves=5,
    )


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(positions(), min_size=1, max_size=3))
def test_distinct_indices_never_meet(at: list[Expr]) -> None:
    if not distinct(tuple(at), "ij"):
        return
    i, j = np.meshgrid(range(EXTENTS["i"]), range(EXTENTS["j"]))
    columns = [np.broadcast_to(value(e, {"i": i, "j": j}), i.shape).ravel() for e in at]
    assert len(set(zip(*columns, strict=True))) == i.size


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ("i", "i + 4", True),
        ("i", "i + 3", False),
        ("i * 8 + j", "i * 8 + j + 3", True),  # any i of one and any of the other
        ("i * 8 + j", "k * 8 + j + 3", True),
        ("i * 8 + j", "i * 8 + j + 2", False),
        ("i * 4 + j", "i * 4 + j + 3", False),  # 0 + 2 + 3 is 4 + 1
        ("k, i", "k + 2, i", True),
        ("i // 2", "i // 2 + 1", False),
        ("p[i]", "p[i] + 1", False),
    ],
)
def test_accesses_that_lie_apart(a: str, b: str, apart: bool) -> None:
    names = "ijk"
    ranges = {name: (0.0, EXTENTS[name] - 1.0) for name in names}
    assert are_apart(indices(a, names), indices(b, names), ranges, ranges, ()) is apart


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 3))
def test_accesses_apart_never_meet(data: st.DataObject, rank: int) -> None:
    a, b = (data.draw(st.lists(positions(), min_size=rank, max_size=rank)) for _ in range(2))
    ranges = {name: (0.0, EXTENTS[name] - 1.0) for name in "ij"}
    if not are_apart(tuple(a), tuple(b), ranges, ranges, ()):
        return
    i, j = np.meshgrid(range(EXTENTS["i"]), range(EXTENTS["j"]))
    one, other = (
        set(
            zip(
                *[np.broadcast_to(value(e, {"i": i, "j": j}), i.shape).ravel() for e in at],
                strict=True,
            )
        )
        for at in (a, b)
    )
    assert one.isdisjoint(other)
