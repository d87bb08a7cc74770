"""Operators whose results have as many rows as data say: boxes, positions, distinct elements."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from convc_runtime import InputError
from onnx.reference import ReferenceEvaluator

from convc import driver
from convc.errors import ConvcError, UsageError
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model
from tests.cli.test_main import outcome
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


@pytest.mark.parametrize("count", [0, 3, 11, 12, 13])
@pytest.mark.parametrize("operator", ["NonMaxSuppression", "NonZero", "Compress"])
def test_data_that_give_more_rows_than_there_are_is_an_error(operator: str, count: int) -> None:
    """12 rows are compiled for: the runtime in Python refuses more, whatever the operator."""
    given: tuple[Any, ...]
    x = np.zeros(40, np.float32)
    x[np.arange(count) * 3] = 1
    match operator:
        case "NonMaxSuppression":
            corners = np.arange(40, dtype=np.float32)[:, None] * 2
            given = (np.hstack([corners, corners, corners + 1, corners + 1])[None], x[None, None])
            model = suppressing(*given, 40, 0.5, 0.5)
        case "NonZero":
            given, model = (x,), model_of([node("NonZero", "x")], {"x": x})
        case _:
            given, model = (x, x > 0), model_of([node("Compress", "x k")], {"x": x, "k": x > 0})
    compiled = driver.compile(import_model(model, {"y": 12}), threads=2)
    if count > 12:
        with pytest.raises(
            InputError, match="more than the model was compiled for: y: 12 rows at most"
        ):
            compiled(*given)
        return
    (expected,) = CompiledRep(model).run(list(given))
    y = np.asarray(compiled(*given))
    assert y.shape[1 if operator == "NonZero" else 0] == 12
    np.testing.assert_array_equal(y[tuple(slice(0, e) for e in expected.shape)], expected)


def test_each_requirement_has_its_own_status() -> None:
    """Two outputs of fixed numbers of rows: the error names the one that doesn't suffice."""
    x, k = np.zeros(9, np.float32), np.ones(9, np.bool_)
    nodes = [node("NonZero", "x", "a"), node("Compress", "x k", "b")]
    compiled = driver.compile(
        import_model(model_of(nodes, {"x": x, "k": k}, ["a", "b"]), {"a": 4, "b": 5})
    )
    assert [o.name for o in compiled.model.outputs] == ["a", "b"]
    with pytest.raises(InputError, match="b: 5 rows at most"):
        compiled(x, k)
    with pytest.raises(InputError, match="a: 4 rows at most"):
        compiled(x + 1, ~k)
    assert [np.shape(y) for y in compiled(x, ~k)] == [(1, 4), (5,)]


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


PROGRAM = """
#include "rows.h"
int main(int argc, char **argv) {
    float x[9] = {0};
    int64_t y[4], in_shape[] = {9}, out_shape[] = {1, 4}, k;
    convc_context *context;
    int32_t status = convc_context_create(&rows_model, NULL, &context);
    convc_tensor input = convc_tensor_of(x, CONVC_FLOAT, 32, 1, in_shape);
    convc_tensor output = convc_tensor_of(y, CONVC_INT, 64, 2, out_shape);
    for (k = 0; k < argc - 1; k++) x[2 * k] = 1;
    if (!status) status = convc_run(context, ROWS_PREDICT, &input, 1, &output, 1);
    printf("%d %s\\n", (int)status, convc_context_message(context));
    convc_context_destroy(context);
    return argv == NULL;
}
"""


def test_c_programs_and_the_command_line_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.ones(9, np.float32)
    onnx.save(model_of([node("NonZero", "x")], {"x": x}), tmp_path / "rows.onnx")
    compiled = driver.compile(import_model(tmp_path / "rows.onnx", {"y": 4}))
    for suffix in ("o", "cvc"):
        compiled.save(tmp_path / f"rows.{suffix}")
    np.save(tmp_path / "x.npy", x)
    code, _, err = outcome(capsys, "run", tmp_path / "rows.cvc", "-i", tmp_path / "x.npy")
    assert (code, len(err)) == (7, 1)
    assert err[0].endswith(
        "these data need more than the model was compiled for: y: 4 rows at most"
    )
    assert "status 256: y: 4 rows at most" in (tmp_path / "rows.h").read_text()
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no cc")
    (tmp_path / "main.c").write_text(PROGRAM)
    strict = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-fsanitize=address,undefined")
    subprocess.run(
        [compiler, *strict, "main.c", "rows.o", "-o", "rows", "-pthread"], cwd=tmp_path, check=True
    )
    said = [
        subprocess.run([tmp_path / "rows", *"x" * n], capture_output=True, text=True).stdout
        for n in (0, 4, 5)
    ]
    assert said[:2] == ["0 \n", "0 \n"]
    assert said[2].startswith("256 ")
    assert "data that need more than the model was compiled for" in said[2]
