"""Multiplications and additions by constants, composed: y = scale * x + shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convc.graph.ir import Node
from convc.graph.op import Op
from convc.ops.broadcasting import Add, Div, Mul, Sub
from convc.ops.norm import BatchNorm
from convc.passes.rewriter import Rewriter

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Affine:
    """scale * x + shift in float64; both arrays have the rank of x and broadcast to it."""

    scale: Float64
    shift: Float64

    def after(self, first: Affine) -> Affine | None:
        """This one applied to the result of `first`; None if the constants would outgrow what they come from."""
        composed = Affine(self.scale * first.scale, self.scale * first.shift + self.shift)
        given = max(a.size for a in (self.scale, self.shift, first.scale, first.shift))
        return composed if max(composed.scale.size, composed.shift.size) <= given else None

    def along(self, axis: int, extent: int) -> tuple[Float64, Float64] | None:
        """Scale and shift [extent] along an axis (counted from the front), or None if other axes matter too."""
        found = []
        for array in (self.scale, self.shift):
            if array.size != array.shape[axis]:
                return None
            found.append(np.broadcast_to(array.reshape(-1), (extent,)))
        return found[0], found[1]


def affine_of(rewriter: Rewriter, node: Node) -> tuple[str, Affine] | None:
    """The operand x and the function that a node (already resolved) applies to it, if that is affine."""
    match node.op:
        case BatchNorm():
            return batch_norm(rewriter, node)
        case Mul() | Add() | Sub() | Div():
            return arithmetic(rewriter, node)
    return None


def batch_norm(rewriter: Rewriter, node: Node) -> tuple[str, Affine] | None:
    """x and its function for a batch norm with constant statistics."""
    assert isinstance(node.op, BatchNorm)
    x, *names = node.inputs
    arrays = [rewriter.array(n) for n in names]
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    rank = rewriter.types[x].rank
    shape = [1] * rank
    shape[node.op.axis % rank] = -1
    scale = gamma / np.sqrt(variance + node.op.epsilon)
    return x, Affine(scale.reshape(shape), (beta - mean * scale).reshape(shape))


def arithmetic(rewriter: Rewriter, node: Node) -> tuple[str, Affine] | None:
    """x and its function for an operator with one constant operand that doesn't enlarge the other."""
    a, b = node.inputs
    constant, first = rewriter.array(b), True
    x = a
    if constant is None:
        constant, x, first = rewriter.array(a), b, False
    type = rewriter.types[x]
    if constant is None or x in rewriter.weights or not type.dtype.is_float:
        return None
    extents = ((1,) * (type.rank - constant.ndim) + constant.shape)[-type.rank or 1 :]
    if constant.ndim > type.rank or any(
        c not in (1, e) for c, e in zip(extents, type.shape, strict=True)
    ):
        return None
    with np.errstate(all="ignore"):
        function = function_of(node.op, constant.astype(np.float64).reshape(extents), first)
    return (x, function) if function is not None else None


def function_of(op: Op, constant: Float64, x_is_first: bool) -> Affine | None:
    """The function of an operator with a constant operand."""
    one, zero = np.ones((1,) * constant.ndim), np.zeros((1,) * constant.ndim)
    match op:
        case Mul():
            return Affine(constant, zero)
        case Add():
            return Affine(one, constant)
        case Sub():
            return Affine(one, -constant) if x_is_first else Affine(-one, constant)
        case Div() if x_is_first:
            scale = 1 / constant
            return Affine(scale, zero) if np.isfinite(scale).all() else None
    return None
