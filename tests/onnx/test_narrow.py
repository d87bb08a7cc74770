"""Element types that are carried in bytes, against ml_dtypes and ONNX' reference evaluator."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference.ops.op_cast import cast_to

from convc.errors import UnsupportedError
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model
from convc.onnx.narrow import NARROW, Narrow
from tests.onnx.models import node

FLOATS = [k for k in NARROW.values() if k.is_float and k.name != "float8e8m0"]


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int]]], out: int, **weights: Any
) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(n, code, shape) for n, (code, shape) in inputs.items()]
    outputs = [helper.make_tensor_value_info("y", out, None)]
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "narrow", infos, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])


def run(model: onnx.ModelProto, *inputs: Any) -> Any:
    return CompiledRep(model, threads=1).run(list(inputs))[0]


def hard_numbers(kind: Narrow) -> Any:
    """Every number of a type, the middles between them and their neighbours, what lies beyond, and noise."""
    codes = np.arange(1 << kind.bits, dtype=np.uint8)
    exact = kind.restored(codes).astype(np.float32)
    finite = np.unique(exact[np.isfinite(exact)])
    middles = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(s)) for s in (np.inf, -np.inf)]
    noise = np.random.default_rng(0).standard_normal(500) * 10.0 ** np.arange(-8, 12, 0.04)
    beyond = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0.0, -0.0, 1e-40])
    return np.concatenate([exact, middles, *near, noise, beyond]).astype(np.float32)


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("kind", FLOATS, ids=lambda k: k.name)
def test_floats_round_to_even(kind: Narrow, saturate: int) -> None:
    x = hard_numbers(kind)
    nodes = [node("Cast", "x", "y", to=kind.code, saturate=saturate)]
    found = run(model_of(nodes, {"x": (TensorProto.FLOAT, [len(x)])}, kind.code), x)
    expected: Any = cast_to(x, kind.code, bool(saturate))  # type: ignore[arg-type]
    assert found.dtype == expected.dtype
    both = np.isnan(found.astype(np.float32)) & np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(
        np.where(both, 0, found.view(np.uint8)), np.where(both, 0, expected.view(np.uint8))
    )


@pytest.mark.parametrize("kind", NARROW.values(), ids=lambda k: k.name)
def test_every_code_has_its_number(kind: Narrow) -> None:
    codes = np.arange(1 << kind.bits, dtype=np.uint8)
    values = kind.restored(codes) if kind.is_float else codes.astype(kind.numpy)
    model = model_of(
        [node("Cast", "x", "y", to=TensorProto.FLOAT)],
        {"x": (kind.code, [len(values)])},
        TensorProto.FLOAT,
    )
    np.testing.assert_array_equal(run(model, values), values.astype(np.float32))


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_casts_keep_the_lowest_bits(name: str) -> None:
    kind = next(k for k in NARROW.values() if k.name == name)
    x = np.arange(-40, 41, dtype=np.int32)
    model = model_of(
        [node("Cast", "x", "y", to=kind.code)], {"x": (TensorProto.INT32, [81])}, kind.code
    )
    np.testing.assert_array_equal(run(model, x).astype(int), x.astype(kind.numpy).astype(int))


def test_four_bit_weights_are_dequantized() -> None:
    """What exporters of large models write: packed weights, a scale per block."""
    weights = np.arange(-8, 8).reshape(2, 8).astype(ml_dtypes.int4)
    scale = np.array([[0.5, 1], [2, 4]], np.float32)
    nodes = [
        node("DequantizeLinear", "w s", "d", axis=1, block_size=4),
        node("Transpose", "d", "t", perm=[1, 0]),
        node("MatMul", "x t", "y"),
    ]
    model = model_of(
        nodes, {"x": (TensorProto.FLOAT, [3, 8])}, TensorProto.FLOAT, w=weights, s=scale
    )
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    wide = weights.astype(np.float32) * np.repeat(scale, 4, 1)
    np.testing.assert_allclose(run(model, x), x @ wide.T, rtol=1e-5)


def test_moves_take_packed_elements_and_sums_do_not() -> None:
    values = np.arange(16, dtype=np.uint8).view(np.uint8)
    kind = NARROW[TensorProto.FLOAT8E5M2]
    moves = [node("Transpose", "x", "t", perm=[1, 0]), node("Flatten", "t", "y")]
    model = model_of(moves, {"x": (kind.code, [4, 4])}, kind.code)
    found = run(model, kind.restored(values.reshape(4, 4)))
    np.testing.assert_array_equal(found.view(np.uint8), values.reshape(4, 4).T)
    model = model_of([node("Add", "x x", "y")], {"x": (kind.code, [4])}, kind.code)
    with pytest.raises(
        UnsupportedError, match=r"on \(float8e5m2\[4\], .*element type float8e5m2 is not"
    ):
        import_model(model)
