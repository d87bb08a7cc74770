"""Non-maximum suppression: of the boxes that overlap, the ones with the highest scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import (
    INDEX,
    Block,
    Const,
    Expr,
    For,
    If,
    Let,
    Stmt,
    Var,
    const,
    index,
    minimum,
    select,
)
from convc.ops.base import Array, Types, cast, fail
from convc.ops.radix import Counter, Radix, sort_key
from convc.types import DType, TensorType

REAL = DType.float32
GROUP = 16
"""Selected boxes that a candidate is compared with at once."""
GROUPS = 8
"""Groups after which it is asked whether the candidate is still one."""

SIDES = ("low_y", "low_x", "high_y", "high_x", "area")


@register
@dataclass(frozen=True)
class NonMaxSuppression(Op):
    """The boxes (batch, class, box) that no better one of their class overlaps by more than `overlap`: int64[rows, 3].

    boxes[b, n, 4] are (y, x) of two opposite corners, or with `centered` (x, y, width, height); scores[b, c, n]. Each
    class of each image selects up to `limit` boxes with scores above `least` (any score, if not `filtered`), the
    highest first, the first of equal ones first. Rows beyond the selected ones are -1. A box without an area overlaps
    none. limit: int64[]; overlap and least: float32[]. Source: ONNX, NonMaxSuppression-11.
    """

    rows: int = 0
    centered: bool = False
    filtered: bool = True

    def infer(
        self,
        boxes: TensorType,
        scores: TensorType,
        limit: TensorType,
        overlap: TensorType,
        least: TensorType,
    ) -> Types:
        if boxes.rank != 3 or boxes.shape[2] != 4 or boxes.dtype is not REAL:
            raise fail(self, f"boxes expects float32[batch, boxes, 4], got {boxes}")
        wanted = (boxes.shape[0], boxes.shape[1])
        if scores.rank != 3 or (scores.shape[0], scores.shape[2]) != wanted:
            raise fail(self, f"scores {scores} do not fit boxes {boxes}")
        if scores.dtype is not REAL or not isinstance(boxes.shape[1], int):
            raise fail(
                self, f"expects float32 scores of a known number of boxes, got {scores}, {boxes}"
            )
        kinds = [(t.dtype, t.shape) for t in (limit, overlap, least)]
        if kinds != [(DType.int64, ()), (REAL, ()), (REAL, ())]:
            raise fail(
                self,
                f"expects int64[], float32[] and float32[] as its limits, got {limit}, {overlap}, {least}",
            )
        if self.rows < 0:
            raise fail(self, f"rows expects a number from 0, got {self.rows}")
        return (TensorType(DType.int64, (self.rows, 3)),)

    def reference(
        self, boxes: Array, scores: Array, limit: Array, overlap: Array, least: Array
    ) -> Array:
        found = self.selected(boxes, scores, int(limit), overlap, least)[: self.rows]
        result = np.full((self.rows, 3), -1, np.int64)
        result[: len(found)] = np.array(found, np.int64).reshape((-1, 3))
        return result

    def selected(
        self, boxes: Array, scores: Array, limit: int, overlap: Array, least: Array
    ) -> list[tuple[int, int, int]]:
        """All rows, however many there are."""
        found = []
        for b in range(scores.shape[0]):
            sides = self.np_sides(np.asarray(boxes[b], np.float32))
            for c in range(scores.shape[1]):
                row = np.asarray(scores[b, c], np.float32)
                places = np.flatnonzero(row > least) if self.filtered else np.arange(row.size)
                order = places[np.argsort(-row[places], kind="stable")]
                taken = 0
                while order.size and taken < limit:
                    first, order = order[0], order[1:]
                    found.append((b, c, int(first)))
                    taken += 1
                    ratio = np_overlap(sides[:, first, None], sides[:, order])
                    order = order[~(ratio > max(np.float32(overlap), 0))]
        return found

    def np_sides(self, box: Array) -> Array:
        """[5, boxes]: the lower and upper corners and the areas."""
        if self.centered:
            x, y, width, height = box.T
            low, high = (y - height / 2, x - width / 2), (y + height / 2, x + width / 2)
        else:
            low = (np.minimum(box[:, 0], box[:, 2]), np.minimum(box[:, 1], box[:, 3]))
            high = (np.maximum(box[:, 0], box[:, 2]), np.maximum(box[:, 1], box[:, 3]))
        area = (high[0] - low[0]) * (high[1] - low[1])
        return np.stack([*low, *high, area]).astype(np.float32)

    gradient = no_gradient

    def radix(self, boxes: TensorType | Tensor) -> Radix:
        count = boxes.shape[1]
        assert isinstance(count, int)
        return Radix(REAL, count)

    def workspace(self, boxes: TensorType, *others: TensorType) -> tuple[TensorType, ...]:
        """What the sort needs, the selected boxes' sides, the overlaps with a group, and how many rows there are."""
        radix = self.radix(boxes)
        room = -(-radix.most // GROUP) * GROUP
        sides = TensorType(REAL, (len(SIDES), room))
        return (*radix.workspace(), sides, TensorType(REAL, (GROUP,)), TensorType(INDEX, (1,)))

    def procedure(
        self,
        y: Memory,
        space: Sequence[Memory],
        boxes: Tensor,
        scores: Tensor,
        limit: Tensor,
        overlap: Tensor,
        least: Tensor,
    ) -> Block:
        *_, kept, worst, rows = space
        b, c = Var("b"), Var("c")
        radix = self.radix(boxes)
        k, column = Var("k"), Var("column")
        empty = For("k", index(self.rows), (For("column", index(3), (y.put(-1, k, column),)),))
        room = index(kept.buffer.shape[1])
        unused = For("side", index(5), (For("k", room, (kept.put(0, Var("side"), k),)),))
        count = Counter("count")
        one_class: Block = (
            radix.clear(space),
            *count.begin(Const(0, INDEX)),
            For(
                "i",
                index(radix.most),
                self.candidate(radix, space, scores(b, c, Var("i")), least, count),
            ),
            Let("candidates", count.now),
            *radix.sort(space, Var("candidates")),
            *self.chosen(
                y, (kept, worst, rows, radix.sorted_positions(space)), boxes, limit, overlap
            ),
        )
        classes = For("b", index(scores.shape[0]), (For("c", index(scores.shape[1]), one_class),))
        return (empty, unused, For("k", index(1), (rows.put(0, k),)), classes)

    def candidate(
        self, radix: Radix, space: Sequence[Memory], score: Expr, least: Tensor, count: Counter
    ) -> Block:
        """Takes box i where its score is high enough."""
        mine = Var("score", REAL)
        taken: Block = (
            Let("at", count.now),
            *radix.take(space, Var("at"), sort_key(mine, True), Var("i")),
            count.put(Var("at") + 1),
        )
        if not self.filtered:
            return (Let("score", score), *taken)
        return (Let("score", score), If(least() < mine, taken))

    def chosen(
        self,
        y: Memory,
        space: tuple[Memory, Memory, Memory, Memory],
        boxes: Tensor,
        limit: Tensor,
        overlap: Tensor,
    ) -> Block:
        """Goes through the candidates in order and keeps those that none of the kept ones overlaps."""
        kept, worst, rows, order = space
        i, box, row, mine = Var("i"), Var("box"), Var("row"), Var("mine")
        selected, most = Counter("selected"), Counter("most", REAL)
        row_put = If(
            row < index(self.rows),
            (y.put(Var("b"), row, 0), y.put(Var("c"), row, 1), y.put(box, row, 2)),
        )
        keep: Block = (
            *(kept.put(Var(s, REAL), n, mine) for n, s in enumerate(SIDES)),
            selected.put(mine + 1),
            Let("row", rows(0)),
            row_put,
            rows.put(row + 1, 0),
        )
        groups = (mine + (GROUP - 1)) // GROUP
        test: Block = (
            Let("box", cast(order(i), INDEX)),
            *self.sides(boxes, box),
            Let("mine", selected.now),
            Let("groups", groups),
            *most.begin(const(0, REAL)),
            For(
                "part",
                (Var("groups") + (GROUPS - 1)) // GROUPS,
                (If(most.now <= upper(overlap(), const(0, REAL)), overlaps(kept, worst, most)),),
            ),
            If(most.now <= upper(overlap(), const(0, REAL)), keep),
        )
        return (
            *selected.begin(Const(0, INDEX)),
            For("i", Var("candidates"), (If(selected.now < limit(), test),)),
            For("g", (selected.now + (GROUP - 1)) // GROUP, (no_areas(kept),)),
        )

    def sides(self, boxes: Tensor, box: Expr) -> Block:
        """Names for the lower and upper corner and the area of a box."""
        p, q, r, s = (Var(f"p{d}", REAL) for d in range(4))
        named: list[Stmt] = [Let(f"p{d}", boxes(Var("b"), box, d)) for d in range(4)]
        if self.centered:
            half = const(2, REAL)
            values = (q - s / half, p - r / half, q + s / half, p + r / half)
        else:
            values = (lower(p, r), lower(q, s), upper(p, r), upper(q, s))
        named += [Let(n, v) for n, v in zip(SIDES, values, strict=False)]
        low_y, low_x, high_y, high_x = (Var(n, REAL) for n in SIDES[:4])
        named.append(Let("area", (high_y - low_y) * (high_x - low_x)))
        return tuple(named)


def np_overlap(one: Array, many: Array) -> Array:
    """Intersection over union of boxes as sides, 0 where one has no area."""
    height = np.minimum(one[2], many[2]) - np.maximum(one[0], many[0])
    width = np.minimum(one[3], many[3]) - np.maximum(one[1], many[1])
    shared = height * width
    union = one[4] + many[4] - shared
    fits = (height > 0) & (width > 0) & (one[4] > 0) & (many[4] > 0) & (union > 0)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(fits, shared / union, np.float32(0)))


def overlaps(kept: Memory, worst: Memory, most: Counter) -> Block:
    """The largest overlap of the candidate with some groups of kept boxes. Places without a box have no area."""
    n, own = Var("n"), [Var(s, REAL) for s in SIDES]
    theirs = [kept(side, Var("g") * GROUP + n) for side in range(5)]
    height, width, area = Var("height", REAL), Var("width", REAL), Var("other", REAL)
    shared, union = Var("shared", REAL), Var("union", REAL)
    zero = const(0, REAL)
    meets = (zero < height) & (zero < width) & (zero < own[4]) & (zero < area) & (zero < union)
    group: Block = (
        Let("height", lower(own[2], theirs[2]) - upper(own[0], theirs[0])),
        Let("width", lower(own[3], theirs[3]) - upper(own[1], theirs[1])),
        Let("other", theirs[4]),
        Let("shared", height * width),
        Let("union", own[4] + area - shared),
        Let("ratio", select(meets, shared / union, zero)),
        worst.put(upper(worst(n), Var("ratio", REAL)), n),
    )
    together = index(GROUP)
    return (
        For("n", together, (worst.put(0, n),)),
        For(
            "h",
            minimum(Var("groups") - Var("part") * GROUPS, GROUPS),
            (Let("g", Var("part") * GROUPS + Var("h")), For("n", together, group)),
        ),
        For("n", together, (most.put(upper(most.now, worst(n))),)),
    )


def no_areas(kept: Memory) -> Stmt:
    """The places of a group without a box."""
    return For("n", index(GROUP), (kept.put(0, 4, Var("g") * GROUP + Var("n")),))


def lower(a: Expr, b: Expr) -> Expr:
    """The smaller of two numbers, by one comparison: what becomes of a NaN doesn't matter."""
    return select(a < b, a, b)


def upper(a: Expr, b: Expr) -> Expr:
    return select(a < b, b, a)
