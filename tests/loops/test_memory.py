from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.ir import Axis, Buffer, Layout, Var
from convc.loops.memory import offsets, pack, poison, unpack
from convc.loops.simplify import offset_of
from convc.program.footprint import value
from convc.types import Dim, DType


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout]:
    """Shapes with layouts that give each element a place of its own."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    axes: list[Axis] = []
    for dim in range(len(shape)):
        match draw(st.integers(0, 3)):
            case 0 | 1:
                pitch = draw(st.sampled_from([None, shape[dim] + 9]))
                axes.append(Axis(dim, extent=pitch))
            case 2:
                axes += [Axis(dim, 4), Axis(dim, 1, 4)]
            case _:
                padded = draw(st.sampled_from([None, 3]))
                axes += [Axis(dim, 6), Axis(dim, 2, 3), Axis(dim, 1, 2, padded)]
    axes = draw(st.permutations(axes))
    border = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape)
    return shape, Layout(tuple(axes), border)


def place(buffer: Buffer, index: tuple[int, ...]) -> int:
    """Where an element stands, straight from the definition of a layout."""
    total = 0
    extents = buffer.layout.extents(buffer.shape)
    for axis, extent in zip(buffer.layout.axes, extents, strict=True):
        position = (index[axis.dim] + buffer.layout.border[axis.dim][0]) // axis.divide
        if axis.modulus is not None:
            position %= axis.modulus
        total = total * int(str(extent)) + position
    return total


@settings(max_examples=150, deadline=None)
@given(layouts())
def test_pack_puts_each_element_in_its_place_and_zero_elsewhere(
    case: tuple[tuple[int, ...], Layout],
) -> None:
    shape, layout = case
    buffer = Buffer("x", DType.int32, shape, layout)
    array = np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)
    flat = pack(array, buffer, {})
    expected = np.zeros(int(str(buffer.size)), np.int32)
    for index in product(*map(range, shape)):
        expected[place(buffer, index)] = array[index]
    np.testing.assert_array_equal(flat, expected)
    np.testing.assert_array_equal(unpack(flat, buffer, {}), array)
    np.testing.assert_array_equal(flat[offsets(buffer, {})], array)


@settings(max_examples=100, deadline=None)
@given(layouts(), st.data())
def test_the_form_of_an_index_is_its_place(
    case: tuple[tuple[int, ...], Layout], data: st.DataObject
) -> None:
    """`offset_of` of loop variables and of what is split off them, against the definition."""
    shape, layout = case
    buffer = Buffer("x", DType.int32, shape, layout)
    ranges = {f"i{d}": (0, n - 1) for d, n in enumerate(shape)}
    first = Var("i0")
    whole = first // 2 * 2 + first % 2 if data.draw(st.booleans()) else first
    at = (whole, *(Var(f"i{d}") for d in range(1, len(shape))))
    terms, constant = offset_of(buffer, at, ranges)
    for position in product(*map(range, shape)):
        values = {f"i{d}": np.int64(i) for d, i in enumerate(position)}
        found = constant + sum(c * int(value(atom, values)) for atom, c in terms.items())
        assert found == place(buffer, position)


def test_symbols_give_the_extents() -> None:
    buffer = Buffer("x", DType.float32, (Dim.symbol("N"), 2), Layout.permuted((1, 0)))
    array = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    np.testing.assert_array_equal(pack(array, buffer, {"N": 3}), [1, 3, 5, 2, 4, 6])


def test_a_rolling_buffer_keeps_the_last_rows() -> None:
    layout = Layout((Axis(0, 1, 2), Axis(1)), ((0, 0), (0, 0)))
    buffer = Buffer("x", DType.float32, (4, 2), layout)
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(pack(array, buffer, {}), [4, 5, 6, 7])


def test_a_scalar_is_one_element() -> None:
    buffer = Buffer("x", DType.float32, ())
    flat = pack(np.array(3, np.float32), buffer, {})
    np.testing.assert_array_equal(flat, [3])
    assert unpack(flat, buffer, {}) == 3


def test_unpack_copies() -> None:
    buffer = Buffer("x", DType.float32, (2, 2))
    flat = np.zeros(4, np.float32)
    unpack(flat, buffer, {})[...] = 1
    assert not flat.any()


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float64)], ids=["shape", "dtype"]
)
def test_an_array_that_does_not_fit_is_named(array: NDArray[Any]) -> None:
    with pytest.raises(IRError, match=r"array for x: expected float32\[2, 2\], got float"):
        pack(array, Buffer("x", DType.float32, (2, 2)), {})


def test_memory_of_the_wrong_size_is_named() -> None:
    with pytest.raises(IRError, match=r"memory of x: expected float32\[4\], got float32\[5\]"):
        unpack(np.zeros(5, np.float32), Buffer("x", DType.float32, (2, 2)), {})


def test_poison_is_nan_or_odd() -> None:
    assert np.isnan(poison(DType.bfloat16, 3).astype(np.float32)).all()
    assert (poison(DType.int8, 3) == 0x55).all()
