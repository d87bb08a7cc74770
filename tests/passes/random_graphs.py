"""Random graphs of images in both orders of dimensions, for properties that hold of every pass."""

from __future__ import annotations

import numpy as np

from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.ops.activations import Relu, Sigmoid
from convc.ops.broadcasting import Add, Div, Maximum, Mul, PRelu, Sub
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Abs, Clip, Dropout, Identity, Neg
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm, LayerNorm, LogSoftmax, Softmax
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from convc.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
UNARY: tuple[Op, ...] = (
    Relu(), Sigmoid(), Abs(), Neg(), Identity(), Dropout(), Clip(0.0, 6.0), Clip(-1.0, 1.0), Clip(None, 0.5),
)  # fmt: skip


class RandomGraph:
    """Grows a graph by random steps on random earlier values of rank 4."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder("random")
        size = int(self.rng.integers(3, 6))
        channels = int(self.rng.integers(1, 4))
        self.b.input("x", TensorType(DType.float32, (N, size, size + 1, channels)))
        self.values = ["x"]

    def grown(self, steps: int) -> Graph:
        for _ in range(steps):
            self.step()
        outputs = [self.values[-1], *self.rng.choice(self.values, 1)]
        last = self.finish(outputs[0])
        return self.b.finish(dict.fromkeys((last, *(v for v in outputs[1:] if v != "x"))))

    def step(self) -> None:
        steps = (
            self.unary, self.unary, self.constant, self.constant, self.norm, self.norm, self.conv, self.conv,
            self.conv, self.pool, self.pad, self.both, self.concat, self.turn, self.squeeze, self.softmax, self.slice,
            self.dense,
        )  # fmt: skip
        value = steps[self.rng.integers(len(steps))](self.pick())
        self.values.append(value)

    def pick(self) -> str:
        """A value, mostly the newest."""
        return self.values[-1] if self.rng.random() < 0.7 else str(self.rng.choice(self.values))

    def shape(self, x: str) -> tuple[int, ...]:
        """The extents but the batch's."""
        return tuple(e for e in self.b.types[x].shape[1:] if isinstance(e, int))

    def weight(self, *shape: int, positive: bool = False) -> str:
        array = self.rng.standard_normal(shape).astype(np.float32)
        return self.b.weight("w", np.abs(array) + np.float32(0.5) if positive else array)

    def in_order(self, x: str, apply: object, last: bool) -> str:
        """Applies a step on channels first; for channels last between two transposes."""
        assert callable(apply)
        if not last:
            return str(apply(x))
        return self.b.add(Transpose(LAST), apply(self.b.add(Transpose(FIRST), x)))

    def is_last(self) -> bool:
        return bool(self.rng.random() < 0.7)

    # ------------------------------------------------------------ steps

    def unary(self, x: str) -> str:
        return self.b.add(UNARY[self.rng.integers(len(UNARY))], x)

    def constant(self, x: str) -> str:
        shape = self.shape(x)
        kind = self.rng.integers(4)
        c = [(), (shape[2],), (shape[0], 1, 1), (shape[1], shape[2])][kind]
        op = (Add(), Sub(), Mul(), Div(), Maximum(), PRelu())[self.rng.integers(6)]
        if isinstance(op, PRelu) or self.rng.random() < 0.7:
            return self.b.add(op, x, self.weight(*c, positive=isinstance(op, Div)))
        if isinstance(op, Div):
            return x
        return self.b.add(op, self.weight(*c), x)

    def norm(self, x: str) -> str:
        axis = int(self.rng.choice([1, 3]))
        c = self.shape(x)[axis - 1]
        if self.rng.random() < 0.1:
            return self.b.add(LayerNorm((axis,)), x, self.weight(c), self.weight(c))
        statistics = [self.weight(c) for _ in range(3)]
        return self.b.add(BatchNorm(axis, 1e-3), x, *statistics, self.weight(c, positive=True))

    def conv(self, x: str) -> str:
        def apply(x: str) -> str:
            c, h, w = self.shape(x)
            groups = c if self.rng.random() < 0.3 else 1
            kernel = 1 if min(h, w) < 3 else int(self.rng.choice([1, 3]))
            outputs = groups * int(self.rng.integers(1, 3))
            pads = int(self.rng.integers(0, 2)) * (kernel // 2)
            padding = ((pads, pads), (pads, pads))
            if self.rng.random() < 0.2:
                op: Op = ConvTranspose2d((1, 1), padding, (0, 0), (1, 1), groups)
                y = self.b.add(op, x, self.weight(c, outputs // groups, kernel, kernel))
            else:
                op = Conv2d((1, 1), padding, (1, 1), groups)
                y = self.b.add(op, x, self.weight(outputs, c // groups, kernel, kernel))
            return (
                self.b.add(Add(), y, self.weight(outputs, 1, 1)) if self.rng.random() < 0.5 else y
            )

        return self.in_order(x, apply, self.is_last())

    def pool(self, x: str) -> str:
        def apply(x: str) -> str:
            pads = int(self.rng.integers(0, 2))
            if min(self.shape(x)[1:]) + 2 * pads < 2:
                return x
            kind = (MaxPool2d, AvgPool2d)[self.rng.integers(2)]
            return self.b.add(kind((2, 2), (1, 1), ((pads, pads), (pads, 0))), x)

        return self.in_order(x, apply, self.is_last())

    def pad(self, x: str) -> str:
        last = self.is_last()
        pads = ((0, 0), (1, 0), (1, 1), (0, 0)) if last else ((0, 0), (0, 0), (0, 1), (1, 1))
        return self.b.add(Pad(pads, "constant", 0.0), x)

    def both(self, x: str) -> str:
        shape = self.b.types[x].shape
        others = [v for v in self.values if self.b.types[v].shape == shape]
        op = (Add(), Mul(), Maximum())[self.rng.integers(3)]
        return self.b.add(op, x, str(self.rng.choice(others)))

    def concat(self, x: str) -> str:
        shape = self.b.types[x].shape
        others = [v for v in self.values if self.b.types[v].shape == shape]
        return self.b.add(Concat(int(self.rng.integers(1, 4))), x, str(self.rng.choice(others)))

    def turn(self, x: str) -> str:
        perm = (0, *(int(d) + 1 for d in self.rng.permutation(3)))
        return self.b.add(Transpose(perm), x)

    def squeeze(self, x: str) -> str:
        """Multiplies by something made of a mean over two axes, as squeeze-and-excitation does."""
        axes = ((1, 2), (2, 3))[self.rng.integers(2)]
        keepdims = bool(self.rng.integers(2))
        mean = self.b.add(
            (ReduceMean, ReduceMax, ReduceSum)[self.rng.integers(3)](axes, keepdims), x
        )
        shape = tuple(1 if d in axes else e for d, e in enumerate(self.b.types[x].shape))
        if not keepdims:
            mean = self.b.add(Reshape(shape), mean)
        return self.b.add(Mul(), x, self.b.add(Sigmoid(), mean))

    def softmax(self, x: str) -> str:
        return self.b.add(
            (Softmax, LogSoftmax)[self.rng.integers(2)](int(self.rng.choice([1, 3]))), x
        )

    def slice(self, x: str) -> str:
        if self.shape(x)[1] < 2:
            return x
        op = Slice((None, 0, 1, 0), (None, None, None, None), (1, 1, 1, 1))
        return self.b.add(op, x)

    def dense(self, x: str) -> str:
        y = self.b.add(MatMul(), x, self.weight(self.shape(x)[2], 2))
        return self.b.add(Add(), y, self.weight(2)) if self.rng.random() < 0.5 else y

    def finish(self, x: str) -> str:
        """The last value, or something of lower rank made of it."""
        match self.rng.integers(3):
            case 0:
                return self.b.add(ReduceMean((1, 2), False), x)
            case 1:
                a, b, c = self.shape(x)
                return self.b.add(Reshape((N, a * b * c)), x)
        return x if x != "x" else self.b.add(Relu(), x)
