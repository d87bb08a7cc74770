"""The verifier of programs accepts what lowering makes, and refuses each breach with a message that names it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from convc.errors import IRError
from convc.program.verify import verify_program
from tests.program.programs import TEXT, parsed, two_layers

SCALE = '"y" = scale("t", "w", "y") from "scale"'
MORE = 'input "x": 16*N bytes\n  arena "u": 24*N bytes at 32*N'

BREACHES = [
    ('output "y"', 'output "x"', "region 'x' is defined twice"),
    ('"t", "w", "y")', '"t", "w")', "scale has 3 parameters, got 2"),
    ("edge(\"t\")\n", "side(\"t\")\n", "there is no kernel 'side'"),
    ('copy("x", "t")', 'copy("x", "q")', "there is no region 'q'"),
    ('-> (y: float32[N, 4] in "y")', '-> (y: float32[N, 4] in "q")', "port 'y': there is no region 'q'"),
    ('-> (y: float32[N, 4] in "y")', '-> (y: float32[N, 4] in "x")', "two ports share the region 'x'"),
    ('-> (y: float32[N, 4] in "y")', '-> (y: float32[N, 4] in "t")', "output 'y' is in no output"),
    ('arena "t": 24*N', 'arena "t": 20*N', "t takes bytes 0 to 24 of 't', which has 20 with N = 1"),
    ('arena "t": 24*N', 'arena "t": 24', "t takes bytes 0 to 72 of 't', which has 24 with N = 3"),
    ('copy("x", "t")', 'copy("x", "t" + 4)', "t takes bytes 4 to 28 of 't'"),
    ('arena "t": 24*N', 'arena "t": 24*M', "no input has the symbol 'M'"),
    ('edge("t")\n    ', "", "2 elements of t in 't' are read before they are written with N = 1"),
    ('    edge("t")\n    copy("x", "t")', '    copy("x", "t")', "are read before they are written"),
    ('copy("x", "t")\n    ', "", "4 elements of t in 't' are read before they are written"),
    ('"t", "w", "y")', '"t", "w", "x")', "y writes to a region that is constant"),
    (SCALE, 'copy("x", "t")', "16 bytes of output 'y' are never written with N = 1"),
    ("for n in N { for i in 4 { y[n, i]", "for n in N { for i in 3 { y[n, i]", "4 bytes of output 'y'"),
    ("for i in 4 { t[n, i]", "for i in 6 { t[n, i]", "index 1 goes from 0 to 5, outside t[-1:5]"),
    ("workspace 64*N", "workspace 64", "the workspace has 64 bytes with N = 3"),
    ('input "x": 16*N', 'input "x": 32*N', "x: float32[N, 4] has 16 bytes"),
    ('weight "w": 16', 'weight "w": 32', "the weight's array has 16 bytes"),
]  # fmt: skip


def test_the_example_is_sound() -> None:
    verify_program(two_layers())
    planless = two_layers()
    regions = tuple(replace(r, offset=None) for r in planless.regions)
    verify_program(replace(planless, regions=regions, arena=0))


@pytest.mark.parametrize(("old", "new", "message"), BREACHES, ids=lambda s: s[:30])
def test_breaches_are_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(IRError, match=re.escape(message)):
        verify_program(parsed(TEXT.replace(old, new, 1)))


def test_a_weight_needs_an_array() -> None:
    with pytest.raises(IRError, match="a weight has no array"):
        verify_program(replace(two_layers(), weights={}))


def test_living_regions_share_no_bytes() -> None:
    steps = 'edge("t") edge("u")\n    copy("x", "t") copy("x", "u")'
    text = TEXT.replace('input "x": 16*N bytes', MORE).replace(
        'edge("t")\n    copy("x", "t")', steps
    )
    verify_program(parsed(text))
    with pytest.raises(IRError, match="two regions share bytes with N = 1"):
        verify_program(parsed(text.replace("at 32*N", "at 20*N")))


def test_a_guard_that_leaves_something_out_shows() -> None:
    text = TEXT.replace("t[n, i] = x[n, i] + 1.0", "if i < 3 { t[n, i] = x[n, i] + 1.0 }")
    with pytest.raises(IRError, match="1 elements of t in 't' are read before"):
        verify_program(parsed(text))


@pytest.mark.parametrize(
    "statement", ["t[n, int64(x[n, i])] = 1.0", "if x[n, i] < 1.0 { t[n, i] = 1.0 }"]
)
def test_what_data_may_leave_out_counts_as_unwritten(statement: str) -> None:
    text = TEXT.replace("t[n, i] = x[n, i] + 1.0", statement)
    with pytest.raises(IRError, match="elements of t in 't' are read before"):
        verify_program(parsed(text))


def test_what_both_branches_write_is_written() -> None:
    either = "if x[n, i] < 1.0 { t[n, i] = 1.0 } else { t[n, i] = x[n, i] }"
    verify_program(parsed(TEXT.replace("t[n, i] = x[n, i] + 1.0", either)))
    partly = "if x[n, i] < 1.0 { t[n, i] = 1.0 } else { if i < 3 { t[n, i] = 2.0 } }"
    with pytest.raises(IRError, match="1 elements of t in 't' are read before"):
        verify_program(parsed(TEXT.replace("t[n, i] = x[n, i] + 1.0", partly)))
