"""Views of memory: transposed, reshaped and sliced values read the very elements that numpy would."""

from __future__ import annotations

from typing import Any

import numpy as np
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
