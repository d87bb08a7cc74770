"""Removes arithmetic that does nothing and merges what undoes or repeats itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.graph.ir import Array, Graph, Node
from convc.graph.op import Op
from convc.ops.activations import Relu
from convc.ops.augment import Drawn
from convc.ops.broadcasting import Add, Div, Mul, Pow, Sub
from convc.ops.elementwise import (
    Abs,
    Cast,
    Ceil,
    Clip,
    Dropout,
    Floor,
    Identity,
    Neg,
    Not,
    Round,
    Sign,
    StopGradient,
)
from convc.passes.rewriter import Rewriter

NEUTRAL: dict[type[Op], tuple[float, bool]] = {
    Add: (0, True),
    Sub: (0, False),
    Mul: (1, True),
    Div: (1, False),
    Pow: (1, False),
}
"""The constant that leaves the other operand as it is, and whether it may be the first operand."""

UNDONE_BY_ITSELF = (Neg, Not)
DONE_ONCE = (Abs, Ceil, Floor, Round, Sign)


@dataclass(frozen=True)
class SimplifyAlgebra:
    """x + 0, x - 0, x * 1, x / 1, x ** 1, identities, dropouts, casts to the own dtype, double negations and repeated
    roundings go; limits (relu, clip) on limits become one; a division by powers of two becomes a product,
    which is exact. Sums with -0.0 may change the sign of a zero.

    before:
        graph g(x: float32[N, 2]) -> (y) {
          weight zero: float32[1] = [0.0]
          weight parts: float32[2] = [2.0, -0.25]
          a = add(zero, x)
          b = neg(a)
          c = neg(b)
          d = div(c, parts)
          e = relu(d)
          f = dropout(e) {rate=0.1}
          y = clip(f) {min=-1.0, max=6.0}
        }
    after:
        graph g(x: float32[N, 2]) -> (y) {
          weight d_factor: float32[2] = [0.5, -4.0]
          d = mul(x, d_factor)
          y = clip(d) {min=0.0, max=6.0}
        }
    """

    name: ClassVar[str] = "simplify-algebra"

    def __call__(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            value = same_value(rewriter, rewriter.resolve(node))
            if value is not None:
                rewriter.replace(node.outputs[0], value)
            elif not merged(rewriter, rewriter.resolve(node)):
                rewriter.keep(node)
        return rewriter.done()


def same_value(rewriter: Rewriter, node: Node) -> str | None:
    """The value that a node only copies, if it does."""
    op, inputs = node.op, node.inputs
    if isinstance(op, (Identity, Dropout, StopGradient)):
        return inputs[0]
    if isinstance(op, Drawn):
        return inputs[op.passes_on]
    if isinstance(op, Cast):
        return inputs[0] if op.dtype is rewriter.types[inputs[0]].dtype else None
    if type(op) in NEUTRAL:
        return other_operand(rewriter, node, *NEUTRAL[type(op)])
    before = rewriter.producer.get(inputs[0]) if inputs else None
    if before is None or type(before.op) is not type(op):
        return None
    if isinstance(op, UNDONE_BY_ITSELF):
        return before.inputs[0]
    return inputs[0] if isinstance(op, DONE_ONCE) else None


def other_operand(rewriter: Rewriter, node: Node, neutral: float, both: bool) -> str | None:
    """The operand beside a neutral constant, if the result has its shape."""
    output = rewriter.graph.types[node.outputs[0]]
    a, b = node.inputs
    for x, constant in ((a, b), (b, a)) if both else ((a, b),):
        array = rewriter.array(constant)
        if array is not None and rewriter.types[x] == output and (array == neutral).all():
            return x
    return None


def merged(rewriter: Rewriter, node: Node) -> bool:
    """Emits something simpler in the place of a node, if there is something."""
    if isinstance(node.op, (Relu, Clip)):
        return merge_limits(rewriter, node)
    if isinstance(node.op, Div):
        return multiply(rewriter, node)
    return False


def limits_of(op: Op) -> tuple[float, float] | None:
    """The least and the greatest output of an operator that limits."""
    match op:
        case Relu():
            return 0.0, math.inf
        case Clip():
            low = -math.inf if op.min is None else float(op.min)
            high = math.inf if op.max is None else float(op.max)
            return low, high
    return None


def merge_limits(rewriter: Rewriter, node: Node) -> bool:
    """Limits on limits; a limit at 0 alone is a relu."""
    own = limits_of(node.op)
    before = rewriter.producer.get(node.inputs[0])
    earlier = limits_of(before.op) if before else None
    assert own
    (low, high), x = own, node.inputs[0]
    if earlier and before and low <= high and earlier[0] <= earlier[1]:
        low, high = (min(max(e, own[0]), own[1]) for e in earlier)
        x = before.inputs[0]
    op = limiting(low, high)
    if x == node.inputs[0] and (op == node.op or not isinstance(op, Relu)):
        return False
    rewriter.apply(op, (x,), node)
    return True


def limiting(low: float, high: float) -> Op:
    """The operator with these limits."""
    if (low, high) == (0, math.inf):
        return Relu()
    return Clip(None if low == -math.inf else low, None if high == math.inf else high)


def multiply(rewriter: Rewriter, node: Node) -> bool:
    """x / c as x * (1 / c) where all of c are powers of two whose reciprocals are normal numbers."""
    x, divisor = node.inputs
    array = rewriter.array(divisor)
    if array is None or not array.size or not has_exact_reciprocal(array):
        return False
    factor = rewriter.weight(
        f"{node.outputs[0]}_factor", (1 / array.astype(np.float64)).astype(array.dtype)
    )
    rewriter.apply(Mul(), (x, factor), node)
    return True


def has_exact_reciprocal(array: Array) -> bool:
    """Whether all elements are powers of two (of either sign) inside the range of normal numbers."""
    wide = array.astype(np.float64)
    mantissa, exponent = np.frexp(wide)
    # float16 has normal powers 2**-14 … 2**15, float32 2**-126 … 2**127.
    limit = 14 if array.dtype.itemsize == 2 else 125
    return bool((np.abs(mantissa) == 0.5).all() and (np.abs(exponent - 1) <= limit).all())
