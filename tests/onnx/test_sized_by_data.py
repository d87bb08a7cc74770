"""Operators whose results have as many rows as data say: boxes, positions, distinct elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from convc import driver
from convc.errors import ConvcError, UsageError
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(11)


def assert_like_reference(model: onnx.ModelProto, inputs: list[Any], threads: int = 1) -> list[Any]:
    """The same arrays as ONNX' reference evaluator gives, of the same dtypes."""
    names = [i.name for i in model.graph.input]
    expected = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    found = CompiledRep(model, threads=threads).run(inputs)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    return list(found)


# ---------------------------------------------------------------- boxes


def boxes(batch: int, count: int, centered: bool) -> Any:
    center = RNG.integers(0, 60, (batch, count, 2)).astype(np.float32)
    extent = RNG.integers(1, 20, (batch, count, 2)).astype(np.float32)
    if centered:
        return np.concatenate([center, extent], -1)
    corners = np.concatenate([center, center + extent], -1)
    swapped = corners[..., [2, 1, 0, 3]]
    return np.where(RNG.random((batch, count, 1)) < 0.3, swapped, corners)


def suppressing(
    found: Any, scores: Any, limit: int, overlap: float, least: float | None, centered: bool = False
) -> onnx.ModelProto:
    weights = {"l": np.array([limit]), "o": np.array([overlap], np.float32)}
    names = "b s l o"
    if least is not None:
        weights["t"], names = np.array([least], np.float32), "b s l o t"
    made = [node("NonMaxSuppression", names, center_point_box=int(centered))]
    return model_of(made, {"b": found, "s": scores}, ["y"], weights)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(
    ("batch", "classes", "count", "limit", "overlap", "least"),
    [
        (1, 1, 1, 5, 0.5, 0.0),
        (1, 1, 300, 400, 0.3, 0.2),
        (2, 3, 77, 9, 0.0, 0.5),
        (1, 2, 150, 150, 0.9, None),
        (3, 1, 33, 0, 0.5, 0.0),
        (1, 4, 60, 10, 0.5, 2.0),
    ],
)
def test_boxes_with_the_highest_scores_stay(
    batch: int,
    classes: int,
    count: int,
    limit: int,
    overlap: float,
    least: float | None,
    centered: bool,
) -> None:
    found = boxes(batch, count, centered)
    # Distinct scores: the specification doesn't say which of equal ones is first.
    scores = RNG.permutation(batch * classes * count).reshape((batch, classes, count))
    scores = (scores / scores.size).astype(np.float32)
    model = suppressing(found, scores, limit, overlap, least, centered)
    assert_like_reference(model, [found, scores])


def test_of_equal_scores_the_first_box_is_first() -> None:
    found = np.array([[[0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1.25]]], np.float32)
    scores = np.full((1, 1, 3), 0.5, np.float32)
    (y,) = CompiledRep(suppressing(found, scores, 3, 0.5, 0.0)).run([found, scores])
    assert y.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_a_number_of_rows_by_shape_serves_all_data() -> None:
    first, second = boxes(1, 200, False), boxes(1, 200, False)
    scores = RNG.permutation(200).reshape((1, 1, 200)).astype(np.float32) / 200
    model = suppressing(first, scores, 40, 0.2, 0.3)
    compiled = driver.compile(import_model(model, {"y": 50}), threads=1)
    for given in (first, second):
        y = np.asarray(compiled(given, scores))
        (expected,) = CompiledRep(model).run([given, scores])
        assert y.shape == (50, 3)
        np.testing.assert_array_equal(y[: len(expected)], expected)
        assert (y[len(expected) :] == -1).all()


def test_limits_may_be_inputs() -> None:
    found, scores = boxes(1, 90, False), RNG.random((1, 2, 90)).astype(np.float32)
    limits = [np.array([7]), np.array([0.4], np.float32), np.array([0.3], np.float32)]
    inputs = dict(zip("bslot", [found, scores, *limits], strict=True))
    model = model_of([node("NonMaxSuppression", "b s l o t")], inputs)
    assert_like_reference(model, list(inputs.values()))


def test_data_that_nobody_knows_ask_for_a_number_of_rows() -> None:
    found, scores = boxes(1, 9, False), np.zeros((1, 1, 9), np.float32)
    model = suppressing(found, scores, 3, 0.5, 0.0)
    with pytest.raises(ConvcError, match=r"value of the input 'b'.*--shape y=rows"):
        import_model(model)
    with pytest.raises(ConvcError, match=r"number of rows of 'y', got the shape \[4, 3\]"):
        import_model(model, {"y": (4, 3)})
    with pytest.raises(UsageError, match="called 'z'"):
        import_model(model, {"z": 4})


def test_scores_that_do_not_fit_are_refused() -> None:
    found, scores = boxes(1, 9, False), np.zeros((1, 1, 8), np.float32)
    with pytest.raises(ConvcError, match="do not fit boxes"):
        import_model(suppressing(found, scores, 3, 0.5, 0.0), {"y": 4})


# ---------------------------------------------------------------- positions


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int8])
def test_positions_of_what_is_not_zero(dtype: Any) -> None:
    x = RNG.integers(0, 2, (5, 7, 3)).astype(dtype)
    assert_like_reference(model_of([node("NonZero", "x")], {"x": x}), [x])
    compiled = driver.compile(import_model(model_of([node("NonZero", "x")], {"x": x}), {"y": 120}))
    y = np.asarray(compiled(x))
    expected = np.array(np.nonzero(x))
    np.testing.assert_array_equal(y[:, : expected.shape[1]], expected)
    assert (y[:, expected.shape[1] :] == -1).all()


def test_compressed_slices_and_zeros_behind() -> None:
    x, keep = RNG.standard_normal((3, 40)).astype(np.float32), RNG.random(40) < 0.4
    model = model_of([node("Compress", "x k", axis=1)], {"x": x, "k": keep})
    assert_like_reference(model, [x, keep])
    y = np.asarray(driver.compile(import_model(model, {"y": 30}))(x, keep))
    expected = np.zeros((3, 30), np.float32)
    expected[:, : keep.sum()] = x[:, keep]
    np.testing.assert_array_equal(y, expected)


# ---------------------------------------------------------------- distinct elements


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ((40,), None, np.float32),
        ((500,), None, np.int64),
        ((6, 7), None, np.uint8),
        ((30, 2), 0, np.int8),
        ((2, 25, 2), -2, np.float32),
        ((1,), 0, np.float64),
    ],
)
def test_distinct_elements(shape: Any, axis: int | None, dtype: Any, sorted_: int) -> None:
    x = RNG.integers(0, 3 if axis is not None else 9, shape).astype(dtype)
    given = {} if axis is None else {"axis": axis}
    made = [node("Unique", "x", "y i r c", sorted=sorted_, **given)]
    y, first, inverse, counts = CompiledRep(model_of(made, {"x": x}, ["y", "i", "r", "c"])).run([x])
    values, at, back, many = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    order = np.arange(len(at)) if sorted_ else np.argsort(at)
    np.testing.assert_array_equal(y, np.take(values, order, axis or 0))
    np.testing.assert_array_equal(first, at[order])
    np.testing.assert_array_equal(inverse, np.argsort(order)[back.reshape(-1)])
    np.testing.assert_array_equal(counts, many[order])
    assert y.dtype == dtype


def test_nans_are_one_element() -> None:
    x = np.array([1, np.nan, 1, np.nan, 0.0, -0.0], np.float32)
    y, counts = CompiledRep(model_of([node("Unique", "x", "y i r c")], {"x": x}, ["y", "c"])).run(
        [x]
    )
    np.testing.assert_array_equal(y, np.array([0, 1, np.nan], np.float32))
    assert counts.tolist() == [2, 2, 2]


# ---------------------------------------------------------------- the many of more


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis", "k"), [((3, 300), 1, 100), ((5000,), 0, 999), ((90, 4), 0, 90)]
)
def test_many_of_more(shape: Any, axis: int, k: int, largest: int, dtype: Any) -> None:
    x = (RNG.standard_normal(shape) * 40).astype(dtype)
    made = [node("TopK", "x k", "v i", axis=axis, largest=largest)]
    model = model_of(made, {"x": x}, ["v", "i"], {"k": np.array([k])})
    values, positions = CompiledRep(model).run([x])
    key = x.astype(np.float64) * (-1 if largest else 1)
    order = np.take(np.argsort(key, axis, kind="stable"), np.arange(k), axis)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_updates_in_order(reduction: str, dtype: Any) -> None:
    x, u = (RNG.integers(-2, 3, s).astype(dtype) for s in ((20, 6), (50, 6)))
    where = RNG.integers(-20, 20, (50, 6))
    made = [node("ScatterElements", "x i u", reduction=reduction)]
    assert_like_reference(model_of(made, {"x": x, "i": where, "u": u}), [x, where, u])
