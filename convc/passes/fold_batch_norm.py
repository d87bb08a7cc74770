"""Folds batch norms, and other scales and shifts by constants, into the weights of convolutions and products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Array, Graph, Node
from convc.graph.op import Op
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm
from convc.passes.affine import Affine, Float64, affine_of
from convc.passes.rewriter import Rewriter
from convc.program.deferred import Scaled, as_array, is_deferred

Linear = Conv2d | ConvTranspose2d | MatMul


@dataclass(frozen=True)
class FoldBatchNorm:
    """scale * conv(x, w) + shift becomes conv(x, scale * w) + shift, with one bias [M, 1, 1] ([M] for a product).

    A chain of batch norms and of +, -, *, / by constants is one scale and one shift. It goes into the convolution,
    transposed convolution or matrix product before it; else into a convolution or product after it, where no
    padding stands between the shift and the taps; else it becomes at most one mul and one add. A value that
    something else reads too is a border of the chain. Nothing else is reordered: a batch norm behind an
    activation or a pooling stays there. Scales and shifts are computed in float64 and rounded once.

    before:
        graph g(x: float32[N, 1, 2, 2]) -> (y) {
          weight w: float32[2, 1, 1, 1] = [1.0, 2.0]
          weight gamma: float32[2] = [2.0, -1.0]
          weight beta: float32[2] = [0.5, 1.0]
          weight mean: float32[2] = [1.0, 3.0]
          weight variance: float32[2] = [3.0, 0.0]
          c = conv2d(x, w)
          y = batch_norm(c, gamma, beta, mean, variance) {axis=1, epsilon=1.0}
        }
    after:
        graph g(x: float32[N, 1, 2, 2]) -> (y) {
          weight w_1: float32[2, 1, 1, 1] = [1.0, -2.0]
          weight c_bias: float32[2, 1, 1] = [-0.5, 4.0]
          c_1 = conv2d(x, w_1)
          y = add(c_1, c_bias)
        }
    """

    name: ClassVar[str] = "fold-batch-norm"

    def __call__(self, graph: Graph) -> Graph:
        folder = _Folder(Rewriter(graph))
        for node in graph.nodes:
            folder.visit(node)
        return folder.rewriter.done()


class _Folder:
    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter
        self.chains: dict[str, tuple[str, Affine]] = {}
        """Values that are an affine function of another value, which each step of the chain alone reads."""

    def visit(self, node: Node) -> None:
        node = self.rewriter.resolve(node)
        found = affine_of(self.rewriter, node)
        if found:
            self.visit_affine(node, *found)
        elif isinstance(node.op, Linear) and self.fold_forward(node):
            pass
        else:
            self.rewriter.keep(node)

    # ------------------------------------------------------------ into the weights before

    def visit_affine(self, node: Node, x: str, function: Affine) -> None:
        base, whole, single = x, function, True
        if x in self.chains and self.is_read_once(x):
            earlier, first = self.chains[x]
            composed = function.after(first)
            if composed:
                base, whole, single = earlier, composed, False
        self.chains[node.outputs[0]] = base, whole
        producer = self.rewriter.producer.get(base)
        is_bias = isinstance(node.op, Add) and single
        if producer and isinstance(producer.op, Linear) and self.is_read_once(base):
            if is_bias and whole.shift.ndim and self.is_plain_bias(node, producer):
                self.rewriter.keep(node)
                return
            if self.fold_back(node, producer, whole):
                return
        if not isinstance(node.op, BatchNorm) and (single or self.is_shift_of_scale(node, x, base)):
            self.rewriter.keep(node)
            return
        self.emit_affine(node, base, whole)

    def is_shift_of_scale(self, node: Node, x: str, base: str) -> bool:
        """Whether a chain already is one mul and one add."""
        before = self.rewriter.producer.get(x)
        return (
            isinstance(node.op, Add)
            and before is not None
            and isinstance(before.op, Mul)
            and base in before.inputs
        )

    def is_read_once(self, name: str) -> bool:
        return self.rewriter.uses[name] <= 1

    def is_plain_bias(self, node: Node, producer: Node) -> bool:
        """Whether an addition already has the form [M, 1, 1] or [M]."""
        channels = output_channels(self.rewriter, producer)
        wanted = (channels,) if isinstance(producer.op, MatMul) else (channels, 1, 1)
        return self.rewriter.types[node.inputs[1]].shape == wanted

    def fold_back(self, node: Node, producer: Node, function: Affine) -> bool:
        """Emits the producer with scaled weights, and the bias, in the place of the node."""
        rewriter = self.rewriter
        x, w = producer.inputs
        weight = rewriter.array(w)
        type = rewriter.types[producer.outputs[0]]
        if weight is None or x in rewriter.weights or not type.dtype.is_float:
            return False
        channels = output_channels(rewriter, producer)
        axis = type.rank - 1 if isinstance(producer.op, MatMul) else 1
        along = function.along(axis, channels)
        if along is None:
            return False
        scale, shift = along
        if not (scale == 1).all():
            w = rewriter.weight(w, scaled(weight, output_factor(producer.op, weight, scale)))
        if not shift.any():
            self.rewriter.emit(Node(producer.op, (x, w), node.outputs, producer.layer))
            self.chains.pop(node.outputs[0])
            return True
        self.emit_linear(Node(producer.op, (x, w), node.outputs, node.layer), producer, shift)
        self.chains[node.outputs[0]] = (
            self.rewriter.producer[node.outputs[0]].inputs[0],
            Affine(np.ones((1,) * type.rank), self.broadcast(shift, axis, type.rank)),
        )
        return True

    def broadcast(self, values: Float64, axis: int, rank: int) -> Float64:
        return values.reshape([-1 if d == axis else 1 for d in range(rank)])

    def emit_linear(self, node: Node, producer: Node, shift: Float64) -> None:
        """Emits a linear operator and its bias, which defines the node's output."""
        rewriter = self.rewriter
        out = rewriter.fresh(producer.outputs[0])
        rewriter.emit(Node(node.op, node.inputs, (out,), producer.layer))
        dtype = rewriter.types[out].dtype.numpy
        shape = (-1,) if isinstance(node.op, MatMul) else (-1, 1, 1)
        bias = rewriter.weight(f"{producer.outputs[0]}_bias", shift.astype(dtype).reshape(shape))
        rewriter.emit(Node(Add(), (out, bias), node.outputs, node.layer))

    # ------------------------------------------------------------ into the weights after

    def fold_forward(self, node: Node) -> bool:
        """Emits a linear operator that does what an affine chain before it did."""
        rewriter = self.rewriter
        x, w = node.inputs
        weight = rewriter.array(w)
        if x not in self.chains or weight is None or not self.is_read_once(x):
            return False
        base, function = self.chains[x]
        producer = rewriter.producer.get(base)
        if producer and isinstance(producer.op, Linear) and self.is_read_once(base):
            return False  # It is that one's bias.
        type = rewriter.types[x]
        extent = type.shape[-1 if isinstance(node.op, MatMul) else 1]
        if not isinstance(extent, int) or isinstance(node.op, MatMul) and weight.ndim != 2:
            return False
        along = function.along(type.rank - 1 if isinstance(node.op, MatMul) else 1, extent)
        if along is None:
            return False
        scale, shift = along
        if shift.any() and not takes_shifts(node.op):
            return False
        if not (scale == 1).all():
            w = rewriter.weight(w, scaled(weight, input_factor(node.op, weight, scale)))
        if not shift.any():
            rewriter.emit(Node(node.op, (base, w), node.outputs, node.layer))
            return True
        bias = constant_response(node.op, weight, shift)
        self.emit_linear(Node(node.op, (base, w), node.outputs, node.layer), node, bias)
        rank, axis = rewriter.types[node.outputs[0]].rank, 1
        axis = rank - 1 if isinstance(node.op, MatMul) else axis
        inner = rewriter.producer[node.outputs[0]].inputs[0]
        shifted = Affine(np.ones((1,) * rank), self.broadcast(bias, axis, rank))
        self.chains[node.outputs[0]] = inner, shifted
        return True

    # ------------------------------------------------------------ on its own

    def emit_affine(self, node: Node, base: str, function: Affine) -> None:
        """Emits at most one mul and one add in the place of the node."""
        rewriter, out = self.rewriter, node.outputs[0]
        dtype = rewriter.types[base].dtype.numpy
        has_scale, has_shift = bool((function.scale != 1).any()), bool(function.shift.any())
        if has_scale or not has_shift:
            scale = rewriter.weight(f"{out}_scale", narrow(function.scale.astype(dtype)))
            name = rewriter.fresh(f"{out}_scaled") if has_shift else out
            rewriter.emit(Node(Mul(), (base, scale), (name,), node.layer))
            base = name
        if has_shift:
            shift = rewriter.weight(f"{out}_shift", narrow(function.shift.astype(dtype)))
            rewriter.emit(Node(Add(), (base, shift), (out,), node.layer))


def output_channels(rewriter: Rewriter, node: Node) -> int:
    """The channels (columns) of a linear operator's output."""
    extent = rewriter.types[node.outputs[0]].shape[-1 if isinstance(node.op, MatMul) else 1]
    assert isinstance(extent, int)
    return extent


def takes_shifts(op: Op) -> bool:
    """Whether a shift of the input shifts each output of a channel alike: every tap meets an element."""
    return isinstance(op, MatMul) or isinstance(op, Conv2d) and op.padding == ((0, 0), (0, 0))


def output_factor(op: Op, weight: Array, scale: Float64) -> Float64:
    """What to multiply the weight by (broadcasting) so that output channels are scaled."""
    match op:
        case Conv2d():
            return scale.reshape(-1, 1, 1, 1)
        case ConvTranspose2d():
            channels, per_group = weight.shape[:2]
            by_group = scale.reshape(op.groups, 1, per_group)
            rows = np.broadcast_to(by_group, (op.groups, channels // op.groups, per_group))
            return rows.reshape(channels, per_group, 1, 1)
    return scale


def input_factor(op: Op, weight: Array, scale: Float64) -> Float64:
    """What to multiply the weight by (broadcasting) so that input channels count as scaled."""
    match op:
        case Conv2d():
            outputs, per_group = weight.shape[:2]
            by_group = scale.reshape(op.groups, 1, per_group)
            rows = np.broadcast_to(by_group, (op.groups, outputs // op.groups, per_group))
            return rows.reshape(outputs, per_group, 1, 1)
        case ConvTranspose2d():
            return scale.reshape(-1, 1, 1, 1)
    return scale.reshape(-1, 1)


def constant_response(op: Op, weight: Array, shift: Float64) -> Float64:
    """The output per channel where each input channel is constant: [M]."""
    wide = weight.astype(np.float64)
    if isinstance(op, MatMul):
        return np.asarray(shift @ wide)
    return np.asarray((wide * input_factor(op, weight, shift)).sum(axis=(1, 2, 3)))


def scaled(weight: Array, factor: Float64) -> Array:
    """The weight times a factor that was computed in float64, in the weight's dtype.

    For float32 the factor is rounded first: a big network's weights are multiplied at the speed of memory.
    """
    if weight.itemsize < 4:
        return (weight.astype(np.float64) * factor).astype(weight.dtype)
    factor = factor.reshape((1,) * (weight.ndim - factor.ndim) + factor.shape)
    if is_deferred(weight):
        return as_array(Scaled(weight, factor.astype(weight.dtype)))
    return np.asarray(np.multiply(weight, factor.astype(weight.dtype)))


def narrow(array: Array) -> Array:
    """A constant operand without leading dimensions of extent 1."""
    shape = array.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return array.reshape(shape)
