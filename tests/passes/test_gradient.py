"""The gradient pass: what it gives, what it leaves out, and whole networks against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.errors import ModelError, UnsupportedError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import Conv2d
from convc.ops.loss import SparseSoftmaxCrossentropy
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNormTraining
from convc.ops.pool import MaxPool2d, MaxPool2dGradient
from convc.ops.random import DropoutMask
from convc.ops.reduce import ReduceMean, ReduceSum
from convc.ops.shape import Concat, Reshape, Slice
from convc.ops.values import Value
from convc.passes.gradient import gradient
from convc.types import Dim, DType, TensorType
from tests.ops.differences import assert_gradient_holds
from tests.passes.test_docstrings import examples_of

N = Dim.symbol("N")
PARAMETERS = ("kernel", "bias", "gamma", "beta", "dense", "offset")


def run(graph: Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    return dict(run_graph(graph, inputs))


def f64(*shape: Any) -> TensorType:
    return TensorType(DType.float64, shape)


def network(dtype: DType = DType.float64, dropout: bool = True) -> Graph:
    """conv - batch norm - relu - max pool - dropout - dense - sparse cross entropy, averaged over the batch."""
    builder = Builder("network")

    def given(name: str, *shape: Any) -> str:
        return builder.input(name, TensorType(dtype, shape))

    image = given("image", N, 2, 6, 6)
    labels = builder.input("labels", TensorType(DType.int64, (N,)))
    seed = builder.input("seed", TensorType(DType.uint32, (2,)))
    kernel, bias = given("kernel", 4, 2, 3, 3), given("bias", 4, 1, 1)
    gamma, beta = given("gamma", 4), given("beta", 4)
    dense, offset = given("dense", 36, 5), given("offset", 5)
    y = builder.add(Conv2d(padding=((1, 1), (1, 1))), image, kernel)
    y = builder.add(Add(), y, bias)
    y, _, _ = builder.add_all(BatchNormTraining(), y, gamma, beta)
    y = builder.add(MaxPool2d(), builder.add(Relu(), y))
    y = builder.add(Reshape((N, 36)), y)
    if dropout:
        mask = Value(builder, builder.add(DropoutMask(0.25, (N, 36)), seed))
        y = mask.where(Value(builder, y) * (1 / 0.75), 0).name
    logits = builder.add(Add(), builder.add(MatMul(), y, dense), offset)
    losses = builder.add(SparseSoftmaxCrossentropy(), logits, labels)
    return builder.finish([builder.add(ReduceMean((0,)), losses, name="loss")])


def network_inputs(dtype: DType = DType.float64, batch: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    graph = network(dtype)
    inputs: dict[str, Any] = {
        n: rng.normal(size=graph.types[n].evaluate({"N": batch}).shape).astype(dtype.numpy)  # type: ignore[arg-type]
        for n in graph.inputs
    }
    inputs["labels"] = rng.integers(0, 5, batch)
    inputs["seed"] = np.array([7, 3], np.uint32)
    return inputs


def test_docstring_example_holds() -> None:
    ((before, after),) = examples_of(gradient)
    graph = gradient(parse_graph(before), "loss", ["w"])
    verify_graph(graph)
    assert print_graph(graph) == print_graph(parse_graph(after))
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(4, 3)), "w": rng.normal(size=(3, 1))}
    result = run(graph, {n: a.astype(np.float32) for n, a in inputs.items()})
    expected = inputs["x"].T @ (inputs["x"] @ inputs["w"] > 0)
    np.testing.assert_allclose(result["w_gradient"], expected, rtol=1e-5)


def test_whole_network_against_differences() -> None:
    graph, inputs = network(), network_inputs()
    assert_gradient_holds(graph, inputs, [*PARAMETERS, "image"], tolerance=1e-7)


def test_whole_network_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    inputs = network_inputs()
    ours = run(gradient(network(dropout=False), "loss", PARAMETERS), inputs)
    tensors = {n: torch.tensor(a) for n, a in inputs.items() if n != "seed"}
    for name in PARAMETERS:
        tensors[name].requires_grad_()
    functional = torch.nn.functional
    y = functional.conv2d(tensors["image"], tensors["kernel"], padding=1) + tensors["bias"]
    y = functional.batch_norm(y, None, None, tensors["gamma"], tensors["beta"], True, eps=1e-3)
    y = functional.max_pool2d(torch.relu(y), 2).reshape(len(y), -1)
    logits = y @ tensors["dense"] + tensors["offset"]
    loss = functional.cross_entropy(logits, tensors["labels"])
    loss.backward()
    np.testing.assert_allclose(ours["loss"], loss.detach().numpy(), rtol=1e-12)
    for name in PARAMETERS:
        np.testing.assert_allclose(
            ours[f"{name}_gradient"], tensors[name].grad.numpy(), rtol=1e-9, atol=1e-12
        )


def test_frozen_parameters_cost_nothing() -> None:
    graph = network()
    last = gradient(graph, "loss", ["offset"])
    extra = last.nodes[len(graph.nodes) :]
    operators = {node.op.mnemonic for node in extra}
    assert operators.isdisjoint({"conv2d_weight_gradient", "mat_mul", "max_pool2d_gradient"})
    all_of_them = gradient(graph, "loss", PARAMETERS)
    added = [node.op.mnemonic for node in all_of_them.nodes[len(graph.nodes) :]]
    assert added.count("conv2d_weight_gradient") == 1
    assert "conv_transpose2d" not in added, "the image's gradient was not asked for"


def test_readers_add_up() -> None:
    builder = Builder("g")
    x = builder.input("x", f64(N, 3))
    y = builder.add(Mul(), x, x)
    z = builder.add(Add(), builder.add(Mul(), y, x), x)
    graph = builder.finish([builder.add(ReduceSum((0, 1)), z, name="loss")])
    value = np.random.default_rng(2).normal(size=(4, 3))
    result = run(gradient(graph, "loss", ["x"]), {"x": value})
    np.testing.assert_allclose(result["x_gradient"], 3 * value**2 + 1, rtol=1e-12)


def test_what_the_loss_does_not_read_has_a_zero_gradient() -> None:
    builder = Builder("g")
    x, other = builder.input("x", f64(N, 3)), builder.input("other", f64(N, 2))
    graph = builder.finish([builder.add(ReduceSum((0, 1)), x, name="loss")])
    both = gradient(graph, "loss", ["x", other])
    verify_graph(both)
    result = run(both, {"x": np.ones((2, 3)), "other": np.ones((2, 2))})
    assert result["other_gradient"].tolist() == [[0, 0], [0, 0]]
    assert result["x_gradient"].tolist() == [[1] * 3] * 2


def test_equal_gradients_are_outputs_of_their_own() -> None:
    builder = Builder("g")
    a, b = builder.input("a", f64(3)), builder.input("b", f64(3))
    total = builder.add(ReduceSum((0,)), builder.add(Add(), a, b), name="loss")
    graph = gradient(builder.finish([total]), "loss", ["a", "b", "loss"])
    verify_graph(graph)
    assert graph.outputs == ("loss", "a_gradient", "b_gradient", "loss_gradient")
    result = run(graph, {"a": np.ones(3), "b": np.ones(3)})
    assert result["b_gradient"].tolist() == [1, 1, 1]
    assert result["loss_gradient"] == 1


def test_weights_and_inner_values_have_gradients_too() -> None:
    builder = Builder("g")
    x = builder.input("x", f64(2))
    w = builder.weight("w", np.array([3.0, 4.0]))
    y = builder.add(Mul(), x, w, name="y")
    graph = builder.finish([builder.add(ReduceSum((0,)), builder.add(Mul(), y, y), name="loss")])
    result = run(gradient(graph, "loss", ["w", "y"]), {"x": np.array([1.0, 2.0])})
    assert result["y_gradient"].tolist() == [6, 16]
    assert result["w_gradient"].tolist() == [6, 32]


def test_a_gradient_graph_can_be_differentiated_again() -> None:
    builder = Builder("g")
    x, w = builder.input("x", f64(2, 3, 5, 5)), builder.input("w", f64(4, 3, 3, 3))
    y = builder.add(Conv2d((2, 2), ((1, 0), (0, 1))), x, w)
    squares = builder.add(Mul(), builder.add(Mul(), y, y), y)
    graph = builder.finish([builder.add(ReduceSum((0, 1, 2, 3)), squares, name="loss")])
    first = Builder("h")
    for name in graph.inputs:
        first.input(name, graph.types[name])
    inner = gradient(graph, "loss", ["w", "x"])
    first.weights.update(inner.weights)
    first.types.update({n: inner.types[n] for n in inner.weights})
    for node in inner.nodes:
        first.emit(node)
    norms = [
        first.add(ReduceSum((0, 1, 2, 3)), first.add(Mul(), g, g))
        for g in ("w_gradient", "x_gradient")
    ]
    penalty = first.finish([first.add(Add(), *norms, name="penalty")])
    rng = np.random.default_rng(4)
    inputs = {"x": rng.normal(size=(2, 3, 5, 5)), "w": rng.normal(size=(4, 3, 3, 3))}
    assert_gradient_holds(penalty, inputs, ["x", "w"])


def test_second_gradients_that_there_are_not_are_refused() -> None:
    builder = Builder("g")
    dy = builder.input("dy", f64(1, 1, 2, 2))
    position = builder.input("position", TensorType(DType.int32, (1, 1, 2, 2)))
    dx = builder.add(MaxPool2dGradient(size=(4, 4)), dy, position)
    graph = builder.finish([builder.add(ReduceSum((0, 1, 2, 3)), dx, name="loss")])
    with pytest.raises(UnsupportedError, match="max_pool2d_gradient"):
        gradient(graph, "loss", ["dy"])


def test_parts_of_a_symbolic_batch() -> None:
    """Joining along the batch is differentiated by cutting it at a symbol."""
    builder = Builder("g")
    x, y, s = (builder.input(n, f64(e, 3)) for n, e in (("x", N), ("y", 2), ("s", N + 2)))
    whole = builder.add(Concat(0), x, y)
    loss = builder.add(ReduceSum((0, 1)), builder.add(Mul(), whole, s), name="loss")
    graph = gradient(builder.finish([loss]), "loss", ["x", "y"])
    verify_graph(graph)
    assert parse_graph(print_graph(graph)) == graph
    s_value = np.arange(15.0).reshape(5, 3)
    inputs = {"x": np.ones((3, 3)), "y": np.ones((2, 3)), "s": s_value}
    result = run(graph, inputs)
    np.testing.assert_array_equal(result["x_gradient"], s_value[:3])
    np.testing.assert_array_equal(result["y_gradient"], s_value[3:])


@pytest.mark.parametrize(
    ("loss", "wrt", "message"),
    [
        ("y", ["x"], "the loss 'y' expects one element, got float64"),
        ("total", ["k"], "'k' expects a float dtype, got int64"),
        ("total", ["nothing"], "no value 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(loss: str, wrt: list[str], message: str) -> None:
    builder = Builder("g")
    x = builder.input("x", f64(N, 3))
    builder.input("k", TensorType(DType.int64, (3,)))
    y = builder.add(Slice((None, 0), (None, 2), (1, 1)), x, name="y")
    builder.add(ReduceSum((0, 1)), y, name="total")
    graph = builder.finish(["total"])
    with pytest.raises(ModelError, match=message):
        gradient(graph, loss, wrt)
