"""Views of memory: transposed, reshaped and sliced values read the very elements that numpy would."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.loops.ir import Axis, Buffer, Layout
from convc.loops.memory import offsets
from convc.lower.storage import (
    Storage,
    covers,
    invert,
    is_dense,
    merged_border,
    part_of,
    permuted,
    reshaped,
)
from convc.types import Dim, DType

N = Dim.symbol("N")
BATCH = {"N": 2}


def places(layout: Layout, shape: tuple[Any, ...]) -> Any:
    return offsets(Buffer("b", DType.float32, shape, layout), BATCH)


@st.composite
def stored(draw: st.DrawFn) -> tuple[Layout, tuple[Any, ...]]:
    """A layout with borders, a permuted order and a pitch, and a shape for it."""
    shape: tuple[Any, ...] = tuple(
        draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=4))
    )
    if draw(st.booleans()):
        shape = (N, *shape[1:])
    order = draw(st.permutations(range(len(shape))))
    pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))
    border = [(0, 0) if isinstance(e, Dim) or draw(st.booleans()) else draw(pairs) for e in shape]
    axes = [Axis(d) for d in order]
    last = shape[order[-1]]
    if isinstance(last, int) and draw(st.booleans()):
        axes[-1] = Axis(order[-1], extent=last + sum(border[order[-1]]) + draw(st.integers(0, 3)))
    return Layout(tuple(axes), tuple(border)), shape


@settings(max_examples=200, deadline=None, derandomize=True)
@given(stored(), st.data())
def test_a_permuted_layout_is_the_transposed_view(
    where: tuple[Layout, Any], data: st.DataObject
) -> None:
    layout, shape = where
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    turned = permuted(layout, perm)
    np.testing.assert_array_equal(
        places(turned, tuple(shape[p] for p in perm)), places(layout, shape).transpose(perm)
    )
    assert permuted(turned, invert(perm)) == layout


@settings(max_examples=300, deadline=None, derandomize=True)
@given(stored(), st.data())
def test_a_reshaped_layout_is_the_reshaped_view(
    where: tuple[Layout, Any], data: st.DataObject
) -> None:
    layout, shape = where
    kept = [e for e in shape if e != 1]
    target = list(kept)
    for _ in range(data.draw(st.integers(0, 2))):
        target.insert(data.draw(st.integers(0, len(target))), 1)
    if data.draw(st.booleans()) and len(target) > 1 and all(isinstance(e, int) for e in target):
        target = [target[0] * target[1], *target[2:]]
    view = reshaped(layout, shape, tuple(target))
    if view is None:
        return
    flat = places(layout, shape).reshape(-1)
    np.testing.assert_array_equal(places(view, tuple(target)).reshape(-1), flat)


# ((layout, shape), new shape) of views that need no copy: what splits or joins lies together, wherever the rest lies.
SEEN: dict[str, tuple[Layout, tuple[Any, ...], tuple[Any, ...]]] = {
    "channels-in-parts": (Layout.permuted((0, 2, 3, 1)), (N, 6, 4, 5), (N, 3, 2, 4, 5)),
    "heads": (Layout.permuted((1, 0, 2)), (4, N, 6), (4, N, 3, 2)),
    "heads-joined": (Layout.permuted((1, 0, 2, 3)), (4, N, 3, 2), (4, N, 6)),
    "three-as-two": (Layout.permuted((3, 0, 1, 2)), (2, 3, 4, 5), (4, 6, 5)),
    "beside-a-border": (Layout(tuple(map(Axis, (0, 2, 1))), ((0, 0), (0, 0), (1, 2))), (2, 6, 4), (2, 3, 2, 4)),
    "pitch-that-divides": (Layout((Axis(0), Axis(2), Axis(1, extent=8)), ((0, 0),) * 3), (2, 6, 4), (2, 3, 2, 4)),
}  # fmt: skip
COPIED: dict[str, tuple[Layout, tuple[Any, ...], tuple[Any, ...]]] = {
    "joined-across": (Layout.permuted((0, 2, 1)), (2, 3, 4), (2, 12)),
    "a-border-inside": (Layout(tuple(map(Axis, (0, 1))), ((0, 0), (1, 0))), (2, 6), (2, 3, 2)),
    "pitch-that-does-not-divide": (
        Layout((Axis(0), Axis(2), Axis(1, extent=7)), ((0, 0),) * 3), (2, 6, 4), (2, 3, 2, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_a_reshape_of_neighbours_is_a_view(name: str) -> None:
    layout, shape, target = SEEN[name]
    view = reshaped(layout, shape, target)
    assert view is not None
    flat = places(layout, shape).reshape(-1)
    np.testing.assert_array_equal(places(view, target).reshape(-1), flat)


@pytest.mark.parametrize("name", COPIED)
def test_a_reshape_of_what_lies_apart_is_none(name: str) -> None:
    assert reshaped(*COPIED[name]) is None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(stored(), st.data())
def test_a_reshaped_layout_splits_and_joins_dimensions(
    where: tuple[Layout, Any], data: st.DataObject
) -> None:
    layout, shape = where
    sizes = [e for e in shape if isinstance(e, int)]
    symbols = shape[: len(shape) - len(sizes)]
    cuts = [1, *(d for d in (2, 3, 5, 6, 10, 15) if math.prod(sizes) % d == 0)]
    first = data.draw(st.sampled_from(cuts))
    target = (*symbols, first, math.prod(sizes) // first)
    view = reshaped(layout, shape, target)
    if view is not None:
        flat = places(layout, shape).reshape(-1)
        np.testing.assert_array_equal(places(view, target).reshape(-1), flat)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(stored(), st.data())
def test_a_part_is_the_sliced_view(where: tuple[Layout, Any], data: st.DataObject) -> None:
    layout, shape = where
    dim = data.draw(st.sampled_from(range(len(shape))))
    whole = shape[dim]
    extent = whole if isinstance(whole, int) else 1
    start = data.draw(st.integers(0, extent - 1))
    length = data.draw(st.integers(1, extent - start))
    part = part_of(Storage("r", 0, layout), shape, dim, start)
    if part is None:
        return
    smaller = (*shape[:dim], length, *shape[dim + 1 :])
    cut = places(layout, shape).take(range(start, start + length), axis=dim)
    np.testing.assert_array_equal(part.offset + places(part.layout, smaller), cut)
    assert part.layout.border[dim] == (0, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(stored())
def test_dense_means_in_order(where: tuple[Layout, Any]) -> None:
    layout, shape = where
    flat = places(layout, shape).reshape(-1)
    if is_dense(layout, shape):
        np.testing.assert_array_equal(flat, np.arange(len(flat)))


def test_dense_layouts_are_seen() -> None:
    assert is_dense(Layout.dense(3), (2, 3, 4))
    assert is_dense(Layout.permuted((0, 2, 3, 1)), (N, 7, 1, 1))
    assert not is_dense(Layout.permuted((1, 0)), (2, 3))
    assert not is_dense(Layout.dense(1).with_border(0, 0, 1), (3,))


def test_borders_merge_and_cover() -> None:
    merged = merged_border(((0, 0), (1, 2)), ((0, 1), (2, 0)))
    assert merged == ((0, 1), (2, 2))
    assert merged_border(None, ((3, 1),)) == ((3, 1),)
    layout = Layout(tuple(map(Axis, range(2))), merged)
    assert covers(layout, ((0, 0), (1, 2)))
    assert not covers(layout, ((1, 0), (0, 0)))
