"""Deferred weights: computed in parts, they are what numpy makes of the whole; and who looked at them is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc.loops.ir import Axis, Buffer, Layout
from convc.loops.memory import pack
from convc.ops.winograd import transformed_weights
from convc.program import deferred
from convc.program.deferred import Packed, Scaled, Source, as_array, evaluate_into
from convc.types import DType

Array = np.ndarray


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_PART", 100)


def weight(*shape: int, perm: tuple[int, ...] | None = None) -> Array:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return array if perm is None else array.transpose(perm)


def blocked(extents: tuple[int, ...], dim: int, block: int) -> Buffer:
    """A parameter whose dimension `dim` is split into blocks, the blocks outermost and their insides innermost."""
    others = tuple(Axis(d) for d in range(len(extents)) if d != dim)
    axes = (Axis(dim, divide=block), *others, Axis(dim, modulus=block))
    shape = tuple(-(-e // block) * block if d == dim else e for d, e in enumerate(extents))
    return Buffer("w", DType.float32, shape, Layout(axes, ((0, 0),) * len(extents)))


def whole(array: Array, buffer: Buffer) -> Array:
    wider = np.zeros([int(e) for e in buffer.shape], array.dtype)  # type: ignore[arg-type]
    wider[tuple(slice(n) for n in array.shape)] = array
    return pack(wider, buffer, {})


def evaluated(value: Packed, threads: int = 1) -> Array:
    block = np.zeros(value.nbytes + 64, np.uint8)
    evaluate_into(block, [(64, value)], threads)
    return block[64:].view(np.float32)


@pytest.mark.parametrize("perm", [None, (3, 2, 0, 1)], ids=["OIHW", "HWIO"])
@pytest.mark.parametrize(("dim", "block"), [(0, 16), (0, 24), (1, 4), (2, 1)])
@pytest.mark.parametrize("shape", [(40, 20, 3, 3), (5, 33, 1, 3), (64, 1, 3, 3)])
def test_parts_make_the_packed_whole(
    shape: tuple[int, ...], dim: int, block: int, perm: tuple[int, ...] | None
) -> None:
    array = (
        weight(*shape)
        if perm is None
        else weight(*(shape[perm.index(d)] for d in range(4)), perm=perm)
    )
    buffer = blocked(shape, dim, block)
    factor = np.linspace(0.5, 2, shape[0], dtype=np.float32).reshape(-1, 1, 1, 1)
    value = Packed(Scaled(Source(array), factor), buffer)
    np.testing.assert_array_equal(evaluated(value), whole(array * factor, buffer))


@pytest.mark.parametrize("tile", [(2, 2), (4, 4)])
def test_winograds_filters_are_the_same_in_parts(tile: tuple[int, int]) -> None:
    array = weight(40, 33, 3, 3)
    expected = transformed_weights(array, tile)
    buffer = blocked(expected.shape, 3, 16)
    value = deferred.deferred(transformed_weights(as_array(Source(array)), tile))
    np.testing.assert_array_equal(evaluated(Packed(value, buffer)), whole(expected, buffer))


def test_moves_are_deferred_too() -> None:
    array = weight(20, 30)
    moved = as_array(Source(array)).reshape((20, 1, 30)).transpose((2, 0, 1)).reshape((30, -1))
    value = deferred.deferred(moved)
    assert moved.shape == (30, 20)
    np.testing.assert_array_equal(value.part(None, 0, 0), array.T)
    np.testing.assert_array_equal(value.part(0, 3, 20), array.T[3:20])
    np.testing.assert_array_equal(value.part(1, 3, 20), array.T[:, 3:20])
    assert not any(s.seen for s in value.sources())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_fill_one_block(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_SMALL", 0)
    arrays = [weight(40, 20, 3, 3), weight(64, 1, 3, 3), weight(7)]
    values = [Packed(Source(a), Buffer("w", DType.float32, a.shape)) for a in arrays]
    offsets = [0, 1 << 16, 1 << 17]
    block = np.zeros(1 << 18, np.uint8)
    evaluate_into(block, list(zip(offsets, values, strict=True)), threads)
    for offset, array in zip(offsets, arrays, strict=True):
        place = block[offset : offset + array.nbytes].view(np.float32)
        np.testing.assert_array_equal(place, array.reshape(-1))


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_SMALL", 0)
    value = Packed(
        Scaled(Source(weight(40, 20)), weight(3, 1)), Buffer("w", DType.float32, (40, 20))
    )
    with pytest.raises(ValueError, match="broadcast"):
        evaluate_into(np.zeros(value.nbytes, np.uint8), [(0, value)], 2)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "asarray": np.asarray,
    "astype": lambda a: a.astype(np.float64),
    "arithmetic": lambda a: a * 2,
    "comparison": lambda a: (a == 0).all(),
    "a ufunc": np.isfinite,
    "bytes": lambda a: a.tobytes(),
    "an element": lambda a: a[0, 0],
    "a list": list,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_who_looks_at_the_numbers_is_noted(look: Callable[[Any], Any]) -> None:
    source = Source(weight(20, 30))
    value = as_array(source).transpose((1, 0))
    assert (value.shape, value.ndim, value.nbytes) == ((30, 20), 2, 2400)
    assert value.dtype == np.float32
    assert not source.seen
    np.testing.assert_array_equal(look(value), look(source.array.T))
    assert source.seen
