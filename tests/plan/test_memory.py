"""The memory plan: nothing that lives at the same time shares bytes, and little is wasted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.errors import IRError
from convc.plan.memory import Lifetime, lifetimes_of, lower_bound, place, plan_memory
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Step
from convc.program.weights import ALIGNMENT
from convc.types import Dim, Extent, evaluate

N = Dim.symbol("N")
M = Dim.symbol("M")
STEPS = 8
SIZES: st.SearchStrategy[Extent] = st.one_of(
    st.integers(1, 5000),
    st.integers(1, 500).map(lambda c: c * N),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda c: c[0] * N + c[1]),
    st.just(4 * N * N),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda c: c[0] * N + c[1] * M),
    st.integers(1, 99).map(lambda c: c * N * M + N),
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Entries of calls that touch regions of the arena; what the kernels do doesn't matter here."""
    regions = [
        Region("w", RegionKind.weight, draw(st.integers(1, 300))),
        Region("v", RegionKind.weight, 7),
    ]
    entries = []
    for name in ("predict", "other")[: draw(st.integers(1, 2))]:
        mine = [
            Region(f"{name}/{k}", RegionKind.arena, draw(SIZES))
            for k in range(draw(st.integers(1, 9)))
        ]
        names = st.sampled_from(["w", *(r.name for r in mine)])
        calls = draw(st.lists(st.lists(names, min_size=1, max_size=3), min_size=1, max_size=STEPS))
        steps = tuple(Step("k", tuple(Argument(r) for r in call)) for call in calls)
        entries.append(Entry(name, (), (), steps))
        regions += mine
    return Program("p", tuple(regions), {}, tuple(entries))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(programs(), st.sampled_from([1, 2, 5, 64]), st.sampled_from([1, 3, 70]))
def test_living_regions_are_apart_and_inside_the_workspace(
    program: Program, n: int, m: int
) -> None:
    symbols = {"N": n, "M": m}
    planned = plan_memory(program)
    for entry in planned.entries:
        lives = lifetimes_of(program, entry)
        spans = {}
        for region in planned.regions:
            if region.name not in lives or region.kind is not RegionKind.arena:
                continue
            assert region.offset is not None
            start = evaluate(region.offset, symbols)
            spans[region.name] = (start, start + evaluate(region.size, symbols))
            assert start % ALIGNMENT == 0
            assert spans[region.name][1] <= evaluate(planned.arena, symbols)
        for a in spans:
            for b in spans:
                if a < b and lives[a].meets(lives[b]):
                    assert spans[a][1] <= spans[b][0] or spans[b][1] <= spans[a][0], (a, b)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(programs())
def test_no_plan_is_below_the_lower_bound(program: Program) -> None:
    planned = plan_memory(program)
    for n, m in ((1, 1), (7, 2), (2, 50)):
        symbols = {"N": n, "M": m}
        for entry in program.entries:
            lives = lifetimes_of(program, entry)
            sizes = {r.name: evaluate(r.size, symbols) for r in program.regions
                     if r.kind is RegionKind.arena and r.name in lives}  # fmt: skip
            for position in range(len(entry.steps)):
                now = Lifetime(position, position)
                live = sum(s for name, s in sizes.items() if lives[name].meets(now))
                assert (n, m) != (1, 1) or live <= evaluate(lower_bound(program), symbols)
                assert live <= evaluate(planned.arena, symbols)
        assert evaluate(lower_bound(program), symbols) <= evaluate(planned.arena, symbols)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(programs())
def test_weights_lie_one_behind_the_other(program: Program) -> None:
    planned = plan_memory(program)
    ends = 0
    for region in planned.regions:
        if region.kind is RegionKind.weight:
            assert isinstance(region.offset, int)
            assert isinstance(region.size, int)
            assert region.offset >= ends
            assert region.offset % ALIGNMENT == 0
            ends = region.offset + region.size


def test_a_chain_needs_two_buffers() -> None:
    sizes = {f"r{k}": 640 for k in range(10)}
    lives = {f"r{k}": Lifetime(k, k + 1) for k in range(10)}
    placed, total = place(sizes, lives)
    assert total == 2 * 640
    assert set(placed.values()) == {0, 640}


def test_a_hole_is_filled() -> None:
    lives = {"a": Lifetime(0, 1), "b": Lifetime(1, 2), "c": Lifetime(2, 3), "d": Lifetime(2, 3)}
    placed, total = place({"a": 256, "b": 128, "c": 128, "d": 128}, lives)
    assert placed["c"] + 128 <= placed["b"] or placed["d"] + 128 <= placed["b"]
    assert total == 384


def test_a_symbolic_weight_is_refused() -> None:
    program = Program("p", (Region("w", RegionKind.weight, 4 * N),), {}, ())
    with pytest.raises(IRError, match=r"the weight w has a symbolic size 4\*N"):
        plan_memory(program)


def test_a_region_belongs_to_one_entry() -> None:
    entries = tuple(Entry(n, (), (), (Step("k", (Argument("r"),)),)) for n in "ab")
    program = Program("p", (Region("r", RegionKind.arena, 4),), {}, entries)
    with pytest.raises(IRError, match="the arena region 'r' belongs to two entries"):
        plan_memory(program)
