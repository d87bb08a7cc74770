"""Operators' references against an implementation that isn't ours: ONNX's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from convc.graph.op import Op
from convc.ops.activations import (
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Selu,
    Sigmoid,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from convc.ops.broadcasting import Mod, PRelu
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Erf, Round, Sign
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm, LayerNorm, LogSoftmax, Softmax
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ArgMax, ReduceMax, ReduceMean, ReduceProd
from convc.ops.resize import Resize2d
from convc.ops.shape import DepthToSpace, Gather, Pad, SpaceToDepth, Transpose

Shape = tuple[int, ...]


def onnx_result(
    operator: str,
    inputs: tuple[Any, ...],
    constants: tuple[Any, ...],
    attributes: dict[str, Any],
    opset: int,
) -> Any:
    names = [f"x{k}" for k in range(len(inputs) + len(constants))]
    arrays = [np.asarray(a) if a is not None else None for a in (*inputs, *constants)]
    used = [n if a is not None else "" for n, a in zip(names, arrays, strict=True)]
    node = helper.make_node(operator, used, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
        if a is not None
    ]
    y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "g", values, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    outputs: Any = ReferenceEvaluator(model).run(None, feeds)
    return outputs[0]


def pads(padding: Any) -> list[int]:
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def conv_attributes(op: Conv2d | ConvTranspose2d) -> dict[str, Any]:
    return {
        "strides": op.stride,
        "pads": pads(op.padding),
        "dilations": op.dilation,
        "group": op.groups,
    }


def pool_attributes(op: MaxPool2d | AvgPool2d) -> dict[str, Any]:
    return {"kernel_shape": op.kernel, "strides": op.stride, "pads": pads(op.padding),
            "dilations": op.dilation}  # fmt: skip


def row(
    op: Op,
    operator: str,
    *shapes: Shape,
    constants: tuple[Any, ...] = (),
    opset: int = 20,
    **attributes: Any,
) -> Any:
    return pytest.param(
        op, operator, shapes, constants, opset, attributes, id=str(op).replace(" ", "")
    )


CONVS = [
    (Conv2d((2, 3), ((0, 1), (1, 2))), (2, 3, 11, 10), (4, 3, 3, 5)),
    (Conv2d((1, 1), ((2, 2), (3, 0)), (2, 3)), (2, 3, 9, 11), (4, 3, 3, 3)),
    (Conv2d((1, 2), ((1, 1), (1, 1)), groups=3), (2, 6, 5, 7), (9, 2, 3, 3)),
    (Conv2d((2, 2), ((0, 1), (0, 1)), groups=5), (2, 5, 8, 6), (5, 1, 3, 3)),
]
DECONVS = [
    (ConvTranspose2d((2, 3)), (2, 3, 4, 5), (3, 2, 3, 3)),
    (ConvTranspose2d((2, 2), ((1, 2), (2, 0))), (2, 3, 4, 5), (3, 2, 4, 4)),
    (ConvTranspose2d((2, 2), ((1, 1), (1, 1)), (1, 1)), (2, 3, 4, 5), (3, 2, 3, 3)),
    (ConvTranspose2d((2, 2), ((1, 1), (2, 1)), (1, 0), (2, 3)), (2, 3, 4, 5), (3, 2, 3, 2)),
]
MAX_POOLS = [
    (MaxPool2d(), (2, 3, 8, 7)),
    (MaxPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (2, 3, 9, 8)),
    (MaxPool2d((2, 3), (1, 2), dilation=(2, 2)), (2, 3, 9, 8)),
]
AVG_POOLS = [
    (AvgPool2d(), (2, 3, 8, 7)),
    (AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (2, 3, 9, 8)),
    (AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1)), count_include_pad=True), (2, 3, 9, 8)),
    (AvgPool2d((2, 3), (1, 2), ((1, 1), (2, 2)), (2, 2)), (2, 3, 9, 9)),
]
ROWS = [
    *(row(op, "Conv", x, w, **conv_attributes(op)) for op, x, w in CONVS),
    *(
        row(op, "ConvTranspose", x, w, output_padding=op.output_padding, **conv_attributes(op))
        for op, x, w in DECONVS
    ),
    *(row(op, "MaxPool", x, **pool_attributes(op)) for op, x in MAX_POOLS),
    *(
        row(op, "AveragePool", x, count_include_pad=int(op.count_include_pad), **pool_attributes(op))
        for op, x in AVG_POOLS
    ),
    row(MatMul(), "MatMul", (2, 1, 4, 7), (3, 7, 5)),
    row(Softmax(1), "Softmax", (2, 5, 3), axis=1),
    row(LogSoftmax(1), "LogSoftmax", (2, 5, 3), axis=1),
    row(LayerNorm((-2, -1), 1e-4), "LayerNormalization", (2, 3, 4, 5), (4, 5), (4, 5), axis=-2, epsilon=1e-4),
    row(ReduceMean((2, 3)), "ReduceMean", (2, 3, 4, 5), constants=(np.array([2, 3]),), keepdims=0),
    row(ReduceMax((1,), True), "ReduceMax", (2, 3, 4), constants=(np.array([1]),), keepdims=1),
    row(ReduceProd((-1,)), "ReduceProd", (2, 3, 4), constants=(np.array([-1]),), keepdims=0),
    row(ArgMax(1), "ArgMax", (2, 9, 4), axis=1, keepdims=0),
    row(Transpose((2, 0, 1)), "Transpose", (2, 3, 4), perm=[2, 0, 1]),
    row(DepthToSpace(2), "DepthToSpace", (2, 12, 3, 5), blocksize=2, mode="DCR"),
    row(DepthToSpace(2, "crd"), "DepthToSpace", (2, 12, 3, 5), blocksize=2, mode="CRD"),
    row(SpaceToDepth(2), "SpaceToDepth", (2, 3, 4, 6), blocksize=2),
    row(Pad(((1, 2), (0, 3)), value=2.0), "Pad", (4, 5), constants=(np.array([1, 0, 2, 3]), np.float32(2))),
    row(Pad(((1, 2), (0, 3)), "reflect"), "Pad", (4, 5), constants=(np.array([1, 0, 2, 3]),), mode="reflect"),
    row(Pad(((1, 2), (0, 3)), "edge"), "Pad", (4, 5), constants=(np.array([1, 0, 2, 3]),), mode="edge"),
    *(
        row(Resize2d((2, 3), mode=ours), "Resize", (2, 3, 4, 5), mode=theirs,
            constants=(None, np.array([1, 1, 2, 3], np.float32)), opset=18)
        for ours, theirs in (("nearest", "nearest"), ("bilinear", "linear"))
    ),
    row(Celu(0.8), "Celu", (3, 5), alpha=0.8),
    row(Elu(1.3), "Elu", (3, 5), alpha=1.3),
    row(Selu(), "Selu", (3, 5)),
    row(Gelu(), "Gelu", (3, 5)),
    row(Gelu(True), "Gelu", (3, 5), approximate="tanh"),
    row(HardSigmoid(), "HardSigmoid", (3, 5)),
    row(HardSwish(), "HardSwish", (3, 5)),
    row(LeakyRelu(0.2), "LeakyRelu", (3, 5), alpha=0.2),
    row(Mish(), "Mish", (3, 5)),
    row(Sigmoid(), "Sigmoid", (3, 5)),
    row(Softplus(), "Softplus", (3, 5)),
    row(Softsign(), "Softsign", (3, 5)),
    row(ThresholdedRelu(0.7), "ThresholdedRelu", (3, 5), alpha=0.7),
    row(Erf(), "Erf", (3, 5)),
    row(Round(), "Round", (3, 5)),
    row(Sign(), "Sign", (3, 5)),
    row(PRelu(), "PRelu", (2, 3, 5), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operator", "shapes", "constants", "opset", "attributes"), ROWS)
def test_reference_agrees_with_onnx(
    op: Op,
    operator: str,
    shapes: tuple[Shape, ...],
    constants: tuple[Any, ...],
    opset: int,
    attributes: dict[str, Any],
) -> None:
    rng = np.random.default_rng(1)
    inputs = tuple(rng.normal(size=s).astype(np.float32) for s in shapes)
    expected = onnx_result(operator, inputs, constants, attributes, opset)
    actual = op.reference(*inputs)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_agrees_with_onnx() -> None:
    rng = np.random.default_rng(2)
    inputs = (
        rng.normal(size=(2, 5, 3, 4)).astype(np.float32),
        *(rng.normal(size=5).astype(np.float32) for _ in range(3)),
        rng.uniform(0.1, 4, 5).astype(np.float32),
    )
    expected = onnx_result("BatchNormalization", inputs, (), {"epsilon": 1e-4}, 15)
    np.testing.assert_allclose(
        BatchNorm(1, 1e-4).reference(*inputs), expected, rtol=1e-5, atol=1e-5
    )


def test_gather_agrees_with_onnx() -> None:
    x, at = np.arange(18.0, dtype=np.float32).reshape(2, 9), np.array([[0, -1], [3, -9]])
    expected = onnx_result("Gather", (x, at), (), {"axis": 1}, 20)
    np.testing.assert_array_equal(Gather(1).reference(x, at), expected)


def test_mod_agrees_with_onnx() -> None:
    x, y = np.array([-7, 7, -7, 7], np.int64), np.array([3, 3, -3, -3], np.int64)
    np.testing.assert_array_equal(Mod().reference(x, y), onnx_result("Mod", (x, y), (), {}, 20))
