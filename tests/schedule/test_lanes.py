"""Short loops in statements that operators write become vectors where nothing else could come out."""

from __future__ import annotations

import pytest

from convc.loops.ir import For, LoopKind, walk
from convc.loops.parser import parse_kernel
from convc.schedule.dependence import goes_back
from convc.schedule.lanes import vectorize_lanes

HEAD = "kernel k(in x: float32[64], in p: int64[8], out m: float32[16], out y: float32[64]) {"


def kinds(body: str) -> list[LoopKind]:
    kernel = vectorize_lanes(parse_kernel(f"{HEAD} for g in 4 {{ {body} }} }}"))
    return [s.kind for s in walk(kernel.body) if isinstance(s, For)][1:]


@pytest.mark.parametrize(
    "body",
    [
        "for k in 16 { m[k] = max(m[k], x[g * 16 + k]) }",
        "for k in 8 { let a: float32 = x[k] * x[g]  y[g * 8 + k] = a  m[k] = a + 1.0 }",
        "let at: int64 = p[g]  for k in 8 { y[k] = x[at + k] }",
        "let at: int64 = p[g]  for k in 3 { y[at + k] = y[at + k] + x[k] }",  # its own place again
        "for k in 8 { y[k] = x[k]  y[k] = y[k] + x[g] }",
        "for k in 8 { y[k] = x[k]  m[k] = y[k + 8] }",  # what no iteration stores
        "for k in 8 { alloc s: float32[] register  s[] = 0.0  for c in 4 { s[] = s[] + x[c * 8 + k] }  y[k] = s[] }",
    ],
)
def test_neighbours_from_neighbours_are_lanes(body: str) -> None:
    assert kinds(body)[0] is LoopKind.vectorized


@pytest.mark.parametrize(
    "body",
    [
        "for k in 16 { m[0] = max(m[0], x[k]) }",  # one place for all
        "for k in 8 { m[k + 1] = m[k] + x[k] }",  # from the iteration before
        "for k in 8 { y[p[k]] = x[k] }",  # data say where
        "for k in 8 { let at: int64 = p[k]  y[k] = x[at] }",  # and from where
        "for k in 8 { y[k * 2] = x[k] }",  # no neighbours
        "for k in 7 { y[k] = x[k] }",  # no whole vector
        "for k in 8 { if x[k] < 0.0 { y[k] = x[k] } }",
        "for k in 8 { y[k] = x[k]  y[7 - k] = x[g] }",  # two iterations store to one place
        "for k in 8 { y[k] = x[k]  m[k] = y[g] }",  # what another one stored
        "alloc s: float32[] register  for k in 8 { s[] = x[k] }",  # one register for all
    ],
)
def test_other_loops_stay(body: str) -> None:
    assert set(kinds(body)) == {LoopKind.serial}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("for k in 16 { y[k] = x[k] }", False),
        ("for k in 16 { m[k] = x[k]  y[k] = m[k] }", True),
        ("for k in 8 { let at: int64 = p[k]  y[at] = x[k] }", True),
        ("for k in 8 { y[p[k]] = x[k] }", True),  # the same place twice where p repeats
        ("for k in 8 { y[p[k] * 2 + 1] = x[k] }", True),
        ("for k in 8 { y[k] = x[p[k]] }", False),  # reads may meet
        ("for k in 8 { let at: int64 = p[k] + 1  let more: int64 = at * 2  y[k] = x[more] }", True),
        ("for k in 8 { alloc s: float32[] register  s[] = x[k]  y[k] = s[] }", False),
    ],
)
def test_what_goes_back_to_what_it_stored(body: str, expected: bool) -> None:
    assert goes_back(parse_kernel(f"{HEAD} {body} }}")) is expected
