"""Random shapes of convolutions, pools and products as machine code against numpy, a few of them per native module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.norm import Softmax
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ReduceMean
from convc.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from convc.types import Dim, DType, TensorType, size_of
from tests.codegen.native import RUNNABLE, Native, assert_same_bits, call

N = Dim.symbol("N")
BATCH = 3
PER_MODULE = 10
EXAMPLES = 15
Draw = st.DrawFn


@dataclass(frozen=True)
class Sample:
    """A graph with one input x."""

    graph: Graph
    what: str


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def weight(builder: Builder, draw: Draw, *shape: int) -> str:
    """Small random weights under a new name."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return builder.weight("w", (rng.integers(-32, 33, shape) / 32).astype(np.float32))


def image(builder: Builder, draw: Draw, channels: int, height: int, width: int) -> str:
    """An image in logical NCHW: the input itself, or the transpose of an NHWC one; of N or of 2 images."""
    batch: Any = draw(st.sampled_from([N, N, 2]))
    if draw(st.booleans()):
        return builder.input("x", TensorType(DType.float32, (batch, channels, height, width)))
    x = builder.input("x", TensorType(DType.float32, (batch, height, width, channels)))
    return builder.add(Transpose((0, 3, 1, 2)), x)


def finish(builder: Builder, draw: Draw, value: str, what: object) -> Sample:
    """Ends the graph in NCHW or in NHWC."""
    if len(builder.types[value].shape) == 4 and draw(st.booleans()):
        value = builder.add(Transpose((0, 2, 3, 1)), value)
    return Sample(builder.finish([value]), f"{what} of {builder.types[builder.inputs[0]]}")


def effective(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    return (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)


def window(draw: Draw, most: int) -> dict[str, Any]:
    """Stride, padding and dilation, with the kernel's size and an image's that it fits in."""
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3), (5, 5), (3, 2), (7, 1)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (1, 3)]))
    padding: Any = draw(
        st.sampled_from([((0, 0), (0, 0)), None, ((0, 1), (0, 1)), ((2, 0), (1, 2))])
    )
    reach = effective(kernel, dilation)
    if padding is None:
        padding = tuple(((r - 1) // 2, r // 2) for r in reach)
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1), (1, 2)]))
    least = [max(1, r - p - q) for r, (p, q) in zip(reach, padding, strict=True)]
    size = tuple(draw(st.integers(low, low + most)) for low in least)
    return {
        "kernel": kernel,
        "dilation": dilation,
        "padding": padding,
        "stride": stride,
        "size": size,
    }


CHANNELS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33, 48])


@st.composite
def convolutions(draw: Draw) -> Sample:
    """One convolution, perhaps with a bias, a residual and an activation behind it."""
    w = window(draw, 9)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 16]))
    inside, outside = draw(CHANNELS), draw(CHANNELS)
    if groups > 1:
        inside, outside = (
            draw(st.sampled_from([1, 1, 2, 3])),
            draw(st.sampled_from([1, 1, 2, 5, 16])),
        )
    builder = Builder("conv")
    x = image(builder, draw, groups * inside, *w["size"])
    op = Conv2d(w["stride"], w["padding"], w["dilation"], groups)
    y = builder.add(op, x, weight(builder, draw, groups * outside, inside, *w["kernel"]))
    if draw(st.booleans()):
        y = builder.add(Add(), y, weight(builder, draw, groups * outside, 1, 1))
    if draw(st.booleans()):
        y = builder.add(Relu(), y)
    return finish(builder, draw, y, f"{op} with {groups * outside} filters of {w['kernel']}")


@st.composite
def chains(draw: Draw) -> Sample:
    """Two convolutions and what joins them: values with borders, residuals, and concatenations in place."""
    builder = Builder("chain")
    channels = draw(CHANNELS)
    size = draw(pairs(1, 9))
    x = image(builder, draw, channels, *size)
    same = Conv2d(padding=((1, 1), (1, 1)))
    a = builder.add(Relu(), builder.add(same, x, weight(builder, draw, channels, channels, 3, 3)))
    kind = draw(st.sampled_from(["add", "concat", "pool", "depthwise", "add-before"]))
    if kind == "concat":
        a = builder.add(Concat(1), x, a) if draw(st.booleans()) else builder.add(Concat(1), a, x)
        channels *= 2
    elif kind == "add":
        a = builder.add(Add(), a, x)
    elif kind == "pool":
        a = builder.add(MaxPool2d((3, 3), (1, 1), ((1, 1), (1, 1))), a)
    elif kind == "depthwise":
        op = Conv2d(padding=((1, 1), (1, 1)), groups=channels)
        a = builder.add(op, a, weight(builder, draw, channels, 1, 3, 3))
    filters = draw(CHANNELS) if kind != "add-before" else channels
    b = builder.add(same, a, weight(builder, draw, filters, channels, 3, 3))
    if kind == "add-before":
        b = builder.add(Relu(), builder.add(Add(), b, a))
    return finish(builder, draw, b, f"{kind} of convolutions with {filters} filters")


@st.composite
def transposed(draw: Draw) -> Sample:
    w = window(draw, 5)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inside, outside = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([1, 2, 9, 17]))
    stride = draw(pairs(1, 3))
    reach = effective(w["kernel"], w["dilation"])
    padding: Any = tuple(
        (draw(st.integers(0, r - 1)), draw(st.integers(0, r - 1)) // 2) for r in reach
    )
    full = [(s - 1) * t + r for s, t, r in zip(w["size"], stride, reach, strict=True)]
    if any(f - sum(p) < 1 for f, p in zip(full, padding, strict=True)):
        padding = ((0, 0), (0, 0))
    builder = Builder("transposed")
    x = image(builder, draw, groups * inside, *w["size"])
    op = ConvTranspose2d(stride, padding, (0, 0), w["dilation"], groups)
    y = builder.add(op, x, weight(builder, draw, groups * inside, outside, *w["kernel"]))
    return finish(builder, draw, y, f"{op} with {outside} filters per group of {w['kernel']}")


@st.composite
def pools(draw: Draw) -> Sample:
    w = window(draw, 9)
    padding: Any = tuple(
        (min(p, k - 1), min(q, k - 1)) for (p, q), k in zip(w["padding"], w["kernel"], strict=True)
    )
    reach = effective(w["kernel"], w["dilation"])
    size = tuple(max(s, r) for s, r in zip(w["size"], reach, strict=True))
    builder = Builder("pool")
    x = image(builder, draw, draw(CHANNELS), *size)
    if draw(st.booleans()):
        op: Any = MaxPool2d(w["kernel"], w["stride"], padding, w["dilation"])
    else:
        op = AvgPool2d(
            w["kernel"], w["stride"], padding, dilation=w["dilation"],
            count_include_pad=draw(st.booleans()),
        )  # fmt: skip
    return finish(builder, draw, builder.add(op, x), op)


@st.composite
def products(draw: Draw) -> Sample:
    builder = Builder("product")
    depth, columns = draw(CHANNELS), draw(CHANNELS)
    rows = draw(st.sampled_from([(N,), (N, 3), (5,), (N, 2, 7), (1,)]))
    x = builder.input("x", TensorType(DType.float32, (*rows, depth)))
    batched = len(rows) == 2 and draw(st.booleans())
    y = builder.add(
        MatMul(), x, weight(builder, draw, *((depth,) if not batched else (1, depth)), columns)
    )
    if draw(st.booleans()):
        y = builder.add(Relu(), builder.add(Add(), y, weight(builder, draw, columns)))
    return finish(builder, draw, y, f"product with {columns} columns")


IMAGE_OPS = ["conv", "pool", "relu", "add", "concat", "slice", "nhwc", "pad", "scale", "twice"]
MATRIX_OPS = ["product", "relu", "softmax", "concat", "slice", "split", "scale"]


@st.composite
def networks(draw: Draw) -> Sample:
    """A few operators one after the other, each on values from before: views of views, joins, several readers."""
    builder = Builder("network")
    channels = draw(st.sampled_from([1, 3, 8, 17]))
    x = image(builder, draw, channels, *draw(pairs(2, 7)))
    values = [x]
    for _ in range(draw(st.integers(2, 7))):
        values.append(image_step(builder, draw, draw(st.sampled_from(values[-3:]))))
    value = values[-1]
    outputs = [value]
    if draw(st.booleans()):
        value = flattened(builder, draw, value)
        for _ in range(draw(st.integers(0, 3))):
            value = matrix_step(builder, draw, value)
        outputs = [value, *(outputs if draw(st.booleans()) else [])]
    elif draw(st.booleans()):
        outputs = [builder.add(Transpose((0, 2, 3, 1)), value)]
    ops = " ".join(n.op.mnemonic for n in builder.nodes)
    return Sample(builder.finish(outputs), f"{ops} of {builder.types[builder.inputs[0]]}")


def image_step(builder: Builder, draw: Draw, x: str) -> str:
    """One operator on a value in NCHW, in NCHW again."""
    _, channels, height, width = builder.types[x].shape
    assert isinstance(channels, int)
    assert isinstance(height, int)
    assert isinstance(width, int)
    kind = draw(st.sampled_from(IMAGE_OPS))
    if channels > 64:
        kind = "slice"
    everything: list[Any] = [(None, None, 1)] * 4
    match kind:
        case "conv":
            filters, k = draw(st.sampled_from([1, 4, 17, channels])), draw(st.sampled_from([1, 3]))
            op = Conv2d(padding=((k // 2, k // 2), (k // 2, k // 2)))
            return builder.add(op, x, weight(builder, draw, filters, channels, k, k))
        case "pool":
            return builder.add(MaxPool2d((2, 2), (1, 1), ((0, 1), (1, 0))), x)
        case "add":
            return builder.add(Add(), x, builder.add(Relu(), x))
        case "twice":
            return builder.add(Add(), x, x)
        case "concat":
            other = builder.add(Relu(), x) if draw(st.booleans()) else x
            return builder.add(Concat(draw(st.sampled_from([1, 1, 1, 2, -1]))), x, other)
        case "slice":
            dim = draw(st.sampled_from([1, 2, 3]))
            extent = (channels, height, width)[dim - 1]
            start = draw(st.integers(0, extent - 1))
            everything[dim] = (start, draw(st.integers(start + 1, extent)), 1)
            return builder.add(Slice(*(tuple(e[i] for e in everything) for i in range(3))), x)
        case "nhwc":
            last = builder.add(Relu(), builder.add(Transpose((0, 2, 3, 1)), x))
            return builder.add(Transpose((0, 3, 1, 2)), last)
        case "pad":
            return builder.add(Pad(((0, 0), (0, 0), (1, 0), (0, 2))), x)
        case "scale":
            return builder.add(Mul(), x, weight(builder, draw, channels, 1, 1))
    return builder.add(Relu(), x)


def flattened(builder: Builder, draw: Draw, x: str) -> str:
    """A value in NCHW as a matrix."""
    if draw(st.booleans()):
        return builder.add(ReduceMean((2, 3)), x)
    batch, *rest = builder.types[x].shape
    if draw(st.booleans()):
        x = builder.add(Transpose((0, 2, 3, 1)), x)
    return builder.add(Reshape((batch, size_of(rest))), x)


def matrix_step(builder: Builder, draw: Draw, x: str) -> str:
    """One operator on a matrix with the batch in front."""
    batch, columns = builder.types[x].shape
    assert isinstance(columns, int)
    match draw(st.sampled_from(MATRIX_OPS)):
        case "product":
            return builder.add(MatMul(), x, weight(builder, draw, columns, draw(CHANNELS)))
        case "softmax":
            return builder.add(Softmax(-1), x)
        case "concat":
            return builder.add(Concat(1), builder.add(Relu(), x), x)
        case "slice" if columns > 1:
            return builder.add(Slice((None, 1), (None, None), (1, 1)), x)
        case "split" if columns % 2 == 0:
            wide = builder.add(Reshape((batch, 2, columns // 2)), x)
            return builder.add(Reshape((batch, columns)), builder.add(Transpose((0, 2, 1)), wide))
        case "scale":
            return builder.add(Mul(), x, weight(builder, draw, columns))
    return builder.add(Relu(), x)


@pytest.mark.parametrize(
    "samples",
    [convolutions, chains, transposed, pools, products, networks],
    ids=lambda s: s.__name__,
)
@pytest.mark.parametrize("target", [RUNNABLE[-1], "x86-64-v2"])
def test_random_shapes(samples: Callable[[], st.SearchStrategy[Sample]], target: str) -> None:
    if target not in RUNNABLE:
        pytest.skip(f"this machine can't run {target}")

    @settings(max_examples=EXAMPLES // PER_MODULE + 1, deadline=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(samples(), min_size=PER_MODULE, max_size=PER_MODULE))
    def check(batch: list[Sample]) -> None:
        check_samples(batch, target)

    check()


def check_samples(batch: list[Sample], target: str) -> None:
    """Samples in one module: near numpy, and the bits of the interpreter."""
    fixed = [s for s in batch if "N" not in str(s.graph.types["x"])]
    for part in (fixed, [s for s in batch if s not in fixed]):
        if not part:
            continue
        native = Native.of({f"s{k}": s.graph for k, s in enumerate(part)}, target)
        model = native.model(2)
        for k, sample in enumerate(part):
            note(f"s{k}: {sample.what}")
            check_sample(native, model, f"s{k}", sample)


def check_sample(native: Native, model: Any, entry: str, sample: Sample) -> None:
    shape = sample.graph.types["x"].evaluate({"N": BATCH}).shape
    x: Any = np.random.default_rng(5).integers(-64, 65, shape) / 32  # type: ignore[arg-type]
    inputs = {"x": x.astype(np.float32)}
    actual = call(model, entry, inputs)
    oracle: list[Any] = list(run_graph(sample.graph, inputs, DType.float64).values())
    symbols = dict.fromkeys(native.program.symbols, BATCH)
    exact = native.interpret(entry, inputs, symbols) if actual[0].size < 3000 else actual
    for a, b, c in zip(actual, oracle, exact, strict=True):
        limit = 4e-6 * max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=limit, err_msg=sample.what)
        assert_same_bits(a, c)
