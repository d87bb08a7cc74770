"""What holds for every operator, over the rows of cases.py."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph, specialised
from convc.graph.ir import Builder, Graph
from convc.graph.op import OPERATORS, Op
from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.ops.broadcasting import (
    Add,
    Div,
    Equal,
    FloorDiv,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Mod,
    Mul,
    NotEqual,
    PRelu,
    Sub,
)  # fmt: skip
from convc.ops.conv import ConvTranspose2d
from convc.ops.elementwise import Neg
from convc.ops.reduce import ArgMax, FirstEqual, ReduceMax
from convc.passes.decompose import Decompose
from convc.types import DType, TensorType
from tests.ops.cases import CASES
from tests.ops.cases.case import Case
from tests.ops.evaluate import evaluate_formula

TOLERANCE = {DType.float64: 1e-12, DType.float32: 1e-5, DType.float16: 2e-3, DType.bfloat16: 1.6e-2}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
with_formula = pytest.mark.parametrize(
    "case", [c for c in CASES if c.op.formula], ids=lambda c: c.name
)
decomposed = pytest.mark.parametrize(
    "case", [c for c in CASES if c.op.decompose], ids=lambda c: c.name
)


def reference(case: Case, arrays: tuple[Any, ...]) -> Any:
    """The only output of the case's operator."""
    (result,) = references(case, arrays)
    return result


def references(case: Case, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The outputs of the case's operator."""
    with np.errstate(all="ignore"):
        result = specialised(case.op, case.symbols, None).reference(*arrays)
    return result if isinstance(result, tuple) else (result,)


def assert_close(actual: Any, expected: Any, dtype: DType) -> None:
    """Equal shapes and dtypes; integers equal; floats within the dtype's tolerance, NaN where NaN."""
    assert actual.shape == expected.shape
    assert DType.of(actual.dtype) is DType.of(expected.dtype) is dtype
    if not dtype.is_float:
        np.testing.assert_array_equal(actual, expected)
        return
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance
    )


def test_every_operator_has_a_row() -> None:
    assert set(OPERATORS) == {case.op.mnemonic for case in CASES}


def test_names_of_rows_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@every_case
def test_infer_agrees_with_the_reference(case: Case) -> None:
    results = references(case, case.arrays())
    actual = [TensorType(DType.of(r.dtype), r.shape) for r in results]
    assert actual == [t.evaluate(case.symbols) for t in case.op.infer(*case.types)]


@with_formula
def test_formula_agrees_with_the_reference_in_float64(case: Case) -> None:
    types = case.in_dtype(DType.float64)
    arrays = case.arrays(types)
    (inferred,) = case.op.infer(*types)
    actual = evaluate_formula(case.op, types, arrays, case.symbols)
    assert_close(actual, reference(case, arrays), inferred.dtype)


@with_formula
def test_formula_agrees_with_the_reference_in_its_own_dtypes(case: Case) -> None:
    arrays = case.arrays()
    (inferred,) = case.op.infer(*case.types)
    actual = evaluate_formula(case.op, case.types, arrays, case.symbols)
    assert_close(actual, reference(case, arrays), inferred.dtype)


def decomposition(case: Case, types: tuple[TensorType, ...]) -> Graph:
    builder = Builder(case.name)
    names = [builder.input(f"x{k}", t) for k, t in enumerate(types)]
    assert case.op.decompose is not None
    return builder.finish(case.op.decompose(builder, *names))


@decomposed
@pytest.mark.parametrize("dtype", [DType.float64, None], ids=["float64", "own"])
def test_decomposition_agrees_with_the_reference(case: Case, dtype: DType | None) -> None:
    types = case.in_dtype(dtype) if dtype else case.types
    graph = decomposition(case, types)
    verify_graph(graph)
    assert tuple(graph.types[n] for n in graph.outputs) == case.op.infer(*types)
    arrays = case.arrays(types)
    inputs = {f"x{k}": a for k, a in enumerate(arrays)}
    found = run_graph(graph, inputs).values()
    for a, b, type in zip(found, references(case, arrays), case.op.infer(*types), strict=True):
        assert_close(a, b, type.dtype)


@decomposed
def test_decomposition_ends_in_formulas(case: Case) -> None:
    whole = Decompose()(decomposition(case, case.types))
    assert all(node.op.formula for node in whole.nodes)


@every_case
def test_text_round_trip(case: Case) -> None:
    graph = case.graph()
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph


@every_case
def test_float32_run_is_near_the_float64_run(case: Case) -> None:
    graph = case.graph()
    inputs = {f"x{k}": a for k, a in enumerate(case.arrays())}
    found = run_graph(graph, inputs).values()
    oracles = run_graph(graph, inputs, DType.float64).values()
    for actual, oracle, name in zip(found, oracles, graph.outputs, strict=True):
        dtype = graph.types[name].dtype
        assert_close(actual, oracle.astype(dtype.numpy), dtype)
        if dtype.is_float:
            assert oracle.dtype == np.float64


permutable = [c for c in CASES if c.op.permute]


@pytest.mark.parametrize("case", permutable, ids=lambda c: c.name)
def test_permuted_operator_maps_permuted_inputs_to_the_permuted_output(case: Case) -> None:
    assert case.op.permute is not None
    rank = max(t.rank for t in case.types)
    perm = tuple(np.roll(range(rank), 1).tolist())
    op = case.op.permute(perm, *case.types)
    if op is None:
        assert any(t.rank not in (0, rank) for t in case.types) or {"axes", "axis", "shape"} & {
            f.name for f in fields(case.op)
        }
        return
    arrays = case.arrays()
    turned = [a.transpose(perm) if a.ndim == rank else a for a in arrays]
    expected = reference(case, arrays).transpose(perm)
    actual = reference(Case(case.name, op, case.types), tuple(turned))
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


elementwise = [c for c in CASES if c.op.formula and len(c.types) == 1 and hasattr(c.op, "scalar")
               and c.types[0].dtype.is_float]  # fmt: skip


@pytest.mark.parametrize("case", elementwise, ids=lambda c: c.name)
def test_special_values(case: Case) -> None:
    special = [
        np.nan,
        np.inf,
        -np.inf,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        1e30,
        -1e30,
        1e-30,
    ]
    x = np.array(special, np.float64)
    types = (TensorType(DType.float64, (len(special),)),)
    actual = evaluate_formula(case.op, types, (x,), {})
    expected = reference(case, (x,))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-300)


PAIRS = [Add(), Sub(), Mul(), Div(), Maximum(), Minimum(), PRelu(), FloorDiv(), Mod(), Less(), LessEqual(),
         Greater(), GreaterEqual(), Equal(), NotEqual()]  # fmt: skip


@pytest.mark.parametrize("op", PAIRS, ids=lambda o: o.mnemonic)
def test_special_values_in_pairs(op: Op) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 0.1, -0.3, 1e30, 7.0])
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    types = (TensorType(DType.float64, x.shape),) * 2
    with np.errstate(all="ignore"):
        expected = op.reference(x, y)
    exact = np.isfinite(expected) & (np.abs(x) < 1e9 * np.abs(y)) | ~np.isfinite(expected)
    actual = evaluate_formula(op, types, (x, y), {})
    np.testing.assert_allclose(actual[exact], expected[exact], rtol=1e-12)


def test_reductions_see_nan() -> None:
    x = np.array([[3.0, np.nan, 5.0, np.nan], [1.0, 4.0, 4.0, 2.0]])
    types = (TensorType(DType.float64, (2, 4)),)
    largest = evaluate_formula(ReduceMax((1,), True), types, (x,), {})
    np.testing.assert_array_equal(largest, [[np.nan], [4.0]])
    at = (*types, TensorType(DType.float64, (2, 1)))
    assert evaluate_formula(FirstEqual(1), at, (x, largest), {}).tolist() == [1, 1]
    assert ArgMax(1).reference(x).tolist() == [1, 1]


def test_neg_of_zero_is_minus_zero() -> None:
    types = (TensorType(DType.float64, (1,)),)
    assert np.signbit(evaluate_formula(Neg(), types, (np.zeros(1),), {}))


def test_groups_of_a_transposed_convolution_are_separate_convolutions() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(2, 6, 4, 5)), rng.normal(size=(6, 2, 3, 3))
    whole = ConvTranspose2d((2, 1), ((1, 0), (1, 1)), groups=2)
    parts = [replace(whole, groups=1).reference(x[:, h], w[h]) for h in (slice(3), slice(3, 6))]
    np.testing.assert_allclose(whole.reference(x, w), np.concatenate(parts, axis=1), rtol=1e-12)
