"""Ensembles of decision trees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import INDEX, Block, Expr, For, Let, Var, const, index, select
from convc.ops.base import Array, Types, cast, fail
from convc.ops.radix import Counter
from convc.ops.suppression import lower, upper
from convc.types import DType, TensorType

MODES = ("leq", "lt", "gte", "gt", "eq", "neq")
"""How a node compares a feature with its value; `MODES.index` is the code."""

FEATURE, MODE, YES, NO, FIRST, COUNT = range(6)
"""The columns of the nodes."""

TRACKS_MISSING = 8
"""Added to the code of a node where a NaN goes the way of a comparison that holds."""


@register
@dataclass(frozen=True)
class TreeSums(Op):
    """For each row of x[n, f] and each column: the weights of the leaves that it reaches, by `aggregate`, and base[t].

    nodes int32[m, 6]: the feature, the comparison's code (`MODES`, 8 more where a NaN counts as holding), the node to
    go to where it holds and where it doesn't (a leaf's is itself), and a leaf's first weight and their number.
    values[m]: what a feature is compared with. roots int32[trees, 2]: the root and the depth of each tree.
    columns int32[w] and weights[w]. `modes`: the codes that occur. Positions must lie inside of the arrays.
    """

    aggregate: str = "sum"
    modes: tuple[int, ...] = (0,)

    def infer(
        self,
        x: TensorType,
        nodes: TensorType,
        values: TensorType,
        roots: TensorType,
        columns: TensorType,
        weights: TensorType,
        base: TensorType,
    ) -> Types:
        if self.aggregate not in ("sum", "min", "max"):
            raise fail(self, f"aggregate expects sum, min or max, got {self.aggregate!r}")
        if x.rank != 2 or x.dtype not in (DType.float32, DType.float64):
            raise fail(self, f"x expects float32 or float64 of rank 2, got {x}")
        if any(t.dtype is not x.dtype or t.rank != 1 for t in (values, weights, base)):
            raise fail(self, f"expects vectors of {x.dtype.value}, got {values}, {weights}, {base}")
        if any(t.dtype is not DType.int32 for t in (nodes, roots, columns)):
            raise fail(self, f"expects int32 positions, got {nodes}, {roots}, {columns}")
        fits = nodes.shape == (values.shape[0], 6) and roots.rank == 2 and roots.shape[1] == 2
        if not fits or columns.shape != weights.shape:
            raise fail(self, f"{nodes}, {values}, {roots}, {columns}, {weights} do not fit")
        return (TensorType(x.dtype, (x.shape[0], base.shape[0])),)

    def reference(
        self,
        x: Array,
        nodes: Array,
        values: Array,
        roots: Array,
        columns: Array,
        weights: Array,
        base: Array,
    ) -> Array:
        result = np.full((len(x), len(base)), self.start, x.dtype)
        rows = np.arange(len(x))
        for root, depth in roots:
            at = np.full(len(x), root)
            for _ in range(depth):
                feature, limit = x[rows, nodes[at, FEATURE]], values[at]
                at = np.where(
                    np_holds(nodes[at, MODE], feature, limit), nodes[at, YES], nodes[at, NO]
                )
            for row, leaf in zip(rows, at, strict=True):
                for k in range(nodes[leaf, FIRST], nodes[leaf, FIRST] + nodes[leaf, COUNT]):
                    old, weight = result[row, columns[k]], weights[k]
                    match self.aggregate:
                        case "sum":
                            result[row, columns[k]] = old + weight
                        case "min":
                            result[row, columns[k]] = min(old, weight)
                        case _:
                            result[row, columns[k]] = max(old, weight)
        return np.asarray(np.where(result == self.start, 0, result) + base, x.dtype)

    @property
    def start(self) -> float:
        """What the aggregate begins with; where it stays that, no leaf has a weight for the column, and it is 0."""
        return {"sum": 0.0, "min": math.inf, "max": -math.inf}[self.aggregate]

    gradient = unsupported_gradient

    def procedure(
        self,
        y: Memory,
        space: Sequence[Memory],
        x: Tensor,
        nodes: Tensor,
        values: Tensor,
        roots: Tensor,
        columns: Tensor,
        weights: Tensor,
        base: Tensor,
    ) -> Block:
        n, t, k, column = Var("n"), Var("t"), Var("k"), Var("column")
        node = Counter("node")
        place, feature = Var("place"), Var("feature", x.dtype)
        step: Block = (
            Let("place", node.now),
            Let("which", cast(nodes(place, FEATURE), INDEX)),
            Let("feature", x(n, Var("which"))),
            Let("mode", nodes(place, MODE)),
            Let("holds", self.holds(Var("mode", DType.int32), feature, values(place))),
            Let("way", select(Var("holds", DType.bool), index(YES), index(NO))),
            node.put(cast(nodes(place, Var("way")), INDEX)),
        )
        first = Let("first", cast(nodes(Var("leaf"), FIRST), INDEX))
        add: Block = (
            Let("weight_at", Var("first") + k),
            Let("column", cast(columns(Var("weight_at")), INDEX)),
            y.put(self.combined(y(n, column), weights(Var("weight_at"))), n, column),
        )
        tree: Block = (
            *node.begin(cast(roots(t, 0), INDEX)),
            For("d", cast(roots(t, 1), INDEX), step),
            Let("leaf", node.now),
            first,
            For("k", cast(nodes(Var("leaf"), COUNT), INDEX), add),
        )
        start = const(self.start, x.dtype)
        every, total = index(base.shape[0]), Var("total", x.dtype)
        result = select(total.eq(start), const(0, x.dtype), total)
        row: Block = (
            For("t", every, (y.put(start, n, t),)),
            For("t", index(roots.shape[0]), tree),
            For("t", every, (Let("total", y(n, t)), y.put(result + base(t), n, t))),
        )
        return (For("n", index(x.shape[0]), row),)

    def holds(self, mode: Expr, x: Expr, limit: Expr) -> Expr:
        """Whether a comparison holds, out of the codes that occur."""
        codes = sorted({code % TRACKS_MISSING for code in self.modes})
        missing = [code for code in self.modes if code >= TRACKS_MISSING]
        # Of a NaN: only != holds in itself, and that as the node says.
        number = x.eq(x)
        plain = mode if not missing else select(
            mode < TRACKS_MISSING, mode, mode - TRACKS_MISSING
        )  # fmt: skip
        result = compared(codes[-1], x, limit)
        for code in codes[-2::-1]:
            result = select(plain.eq(code), compared(code, x, limit), result)
        lost: Expr = const(False, DType.bool)
        if missing:
            lost = const(TRACKS_MISSING, DType.int32) <= mode
        return select(number, result, lost)

    def combined(self, old: Expr, weight: Expr) -> Expr:
        match self.aggregate:
            case "sum":
                return old + weight
            case "min":
                return lower(weight, old)
            case _:
                return upper(old, weight)


def compared(code: int, x: Expr, limit: Expr) -> Expr:
    match MODES[code]:
        case "leq":
            return x <= limit
        case "lt":
            return x < limit
        case "gte":
            return limit <= x
        case "gt":
            return limit < x
        case "eq":
            return x.eq(limit)
        case _:
            return x.ne(limit)


def np_holds(mode: Array, x: Array, limit: Array) -> Array:
    """`TreeSums.holds` of arrays."""
    with np.errstate(invalid="ignore"):
        found = np.choose(
            mode % TRACKS_MISSING,
            [x <= limit, x < limit, x >= limit, x > limit, x == limit, x != limit],
        )
    return np.asarray(np.where(np.isnan(x), mode >= TRACKS_MISSING, found))
