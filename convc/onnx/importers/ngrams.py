"""The import rule of TfIdfVectorizer: how often each n-gram of a pool occurs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from convc.graph.ir import Array
from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.broadcasting import Add, And, Equal, Greater, Mul
from convc.ops.matmul import MatMul
from convc.ops.reduce import ReduceSum
from convc.ops.shape import Concat, Gather
from convc.types import DType


def tf_idf(c: Call) -> str:
    """Counts, whether there is one (IDF), or counts times weights (TFIDF), of a row or of each row of integers."""
    if c.attr("pool_strings"):
        raise Rejected("n-grams of strings are not supported: expected pool_int64s")
    indexes = [int(i) for i in c.attr("ngram_indexes")]
    x = c[0] if c.rank(0) == 2 else c.reshape(c[0], (1, *c.shape(0)))
    size = max(indexes) + 1
    counts = spread(c, counted(c, x, len(indexes)), indexes, size)
    weights = c.attr("weights")
    scale = c.constant(np.array(weights or np.ones(size), np.float32)[:size])
    match c.attr("mode"):
        case "TF":
            result = counts
        case "IDF":
            found = c.add(Greater(), counts, c.scalar(0.0, counts))
            result = c.add(Mul(), c.cast(found, DType.float32), scale)
        case "TFIDF":
            result = c.add(Mul(), counts, scale)
        case other:
            raise Rejected(f"mode {other!r} is not supported: expected TF, IDF or TFIDF")
    return result if c.rank(0) == 2 else c.reshape(result, (size,))


def counted(c: Call, x: str, total: int) -> str:
    """How often each n-gram of the pool occurs in each row: float32[rows, n-grams]."""
    rows, length = c.numbers(x)
    shortest, longest = int(c.attr("min_gram_length")), int(c.attr("max_gram_length"))
    parts = []
    for size, pool in enumerate(pools(c), start=1):
        if not len(pool):
            continue
        found: list[str] = []
        for step in range(1, int(c.attr("max_skip_count")) + 2 if size > 1 else 2):
            places = length - (size - 1) * step
            if places > 0 and shortest <= size <= longest:
                found.append(matches(c, x, pool, step, places))
        nothing = np.zeros((rows, len(pool)), np.float32)
        parts.append(c.fold(Add, found) if found else c.constant(nothing))
    counts = c.add(Concat(1), *parts) if len(parts) > 1 else parts[0]
    if c.shape(counts)[1] != total:
        raise Rejected(f"has {c.shape(counts)[1]} n-grams and {total} indexes")
    return counts


def pools(c: Call) -> list[Array]:
    """The n-grams of each length: arrays [n-grams, length]."""
    pool = np.array(c.attr("pool_int64s"), np.int64)
    starts = [*(int(s) for s in c.attr("ngram_counts")), len(pool)]
    return [
        pool[start:end].reshape((-1, size))
        for size, (start, end) in enumerate(pairwise(starts), start=1)
    ]


def matches(c: Call, x: str, pool: Array, step: int, places: int) -> str:
    """In how many of the first places of a row each n-gram begins, its items `step` apart."""
    hit: str | None = None
    for k in range(pool.shape[1]):
        part = c.slice(x, 1, k * step, k * step + places)
        column = c.reshape(part, (*c.shape(part), 1))
        same = c.add(Equal(), column, c.constant(pool[:, k], c.dtype(x)))
        hit = same if hit is None else c.add(And(), hit, same)
    assert hit is not None
    return c.add(ReduceSum((1,), False), c.cast(hit, DType.float32))


def spread(c: Call, counts: str, indexes: list[int], size: int) -> str:
    """The counts at their indexes; those of one index are added."""
    if sorted(indexes) == list(range(size)):
        return c.add(Gather(1), counts, c.constant(np.argsort(indexes)))
    c.require_small(len(indexes), size)
    places = np.zeros((len(indexes), size), np.float32)
    places[np.arange(len(indexes)), indexes] = 1
    return c.add(MatMul(), counts, c.constant(places))


RULES: dict[str, Rule] = {"TfIdfVectorizer": tf_idf}
