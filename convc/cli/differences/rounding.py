"""What rounding explains: float64 runs of a graph, and of parts of it, with and without noise of its dtypes' size.

The noise is Monte Carlo arithmetic (D. S. Parker, 1997): before each operator its float inputs, and after it its
result, change by random factors of about one rounding. A sum of k products may round k times on its way: its inputs
change by sqrt(k) roundings, and as much as k / 2 roundings of the result are explained where all of them may go one
way (constant weights, sums of positive numbers). How far the results lie apart is what the dtypes explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.graph.interp import specialised
from convc.graph.ir import Graph, Node
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.volume import Conv3d
from convc.types import DType

Array = NDArray[Any]
SAFETY = 8.0
"""A difference of so many times the largest that noise made is still explained: rounding errors have a bias."""
RUNS = 2
BIAS = 0.5
"""The part of a sum's roundings that may go the same way."""
LEAST = 1e-30
"""Differences below it are numbers that a machine may flush to zero."""
PRODUCTS = (MatMul, Conv2d, ConvTranspose2d, Conv3d)


@dataclass(frozen=True)
class Difference:
    """One value against its float64 counterpart. `error` is max |y - y64|, `explained` what rounding may do."""

    largest: float
    error: float
    explained: float

    @property
    def ratio(self) -> float:
        """How many times more than is explained; above 1 something is wrong."""
        if self.error <= LEAST:
            return 0.0
        return self.error / self.explained if self.explained > 0 else math.inf


class Oracle:
    """A graph computed in float64, whole or in parts, for one value of its symbols."""

    def __init__(self, graph: Graph, symbols: Mapping[str, int], seed: int = 0) -> None:
        self.graph = graph
        self.symbols = symbols
        self.producers = graph.producers()
        self.weights: dict[str, Array] = {}
        self.seed = seed

    def weight(self, name: str) -> Array:
        if name not in self.weights:
            self.weights[name] = wide(np.asarray(self.graph.weights[name]))
        return self.weights[name]

    def part(self, target: str, leaves: Mapping[str, Array]) -> list[Node]:
        """The nodes between a value and the nearest leaves, in order."""
        order: list[Node] = []
        seen: set[int] = set()
        stack: list[tuple[str, bool]] = [(target, False)]
        while stack:
            value, done = stack.pop()
            node = self.producers.get(value)
            if node is None or (value in leaves and value != target):
                continue
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((value, True))
                stack += [(i, False) for i in node.inputs]
        return order

    def run(
        self, nodes: Iterable[Node], leaves: Mapping[str, Array], rng: np.random.Generator | None
    ) -> dict[str, Array]:
        """Every value that nodes make of leaves and weights; with `rng`, with noise."""
        values: dict[str, Array] = {}
        for node in nodes:
            arrays = [
                values[i] if i in values else wide(leaves[i]) if i in leaves else self.weight(i)
                for i in node.inputs
            ]
            unit = max((roundoff(self.graph.types[o].dtype) for o in node.outputs), default=0.0)
            count = 1.0
            if rng is not None:
                count = terms(node, arrays, self.graph, self.symbols)
                arrays = [shaken(a, unit * math.sqrt(count), rng) for a in arrays]
            with np.errstate(all="ignore"):
                result = specialised(node.op, self.symbols, DType.float64).reference(*arrays)
            results = result if isinstance(result, tuple) else (result,)
            for name, array in zip(node.outputs, results, strict=True):
                made = np.asarray(array)
                if rng is not None:
                    made = biased(shaken(made, unit, rng), unit * BIAS * count / SAFETY, rng)
                values[name] = made
        return values

    def spread(
        self, nodes: list[Node], leaves: Mapping[str, Array], targets: Mapping[str, Array]
    ) -> dict[str, float]:
        """How far targets may lie from what they are, by rounding alone."""
        found = dict.fromkeys(targets, 0.0)
        for run in range(RUNS):
            noisy = self.run(nodes, leaves, np.random.default_rng((self.seed, run)))
            for name, exact in targets.items():
                found[name] = max(found[name], distance(noisy[name], exact))
        return {
            name: SAFETY * (found[name] + roundoff(self.graph.types[name].dtype) * largest(exact))
            for name, exact in targets.items()
        }

    def compare(self, target: str, got: Array, leaves: Mapping[str, Array]) -> Difference:
        """A value that somebody computed from leaves, against float64 on the same leaves."""
        nodes = self.part(target, leaves)
        exact = self.run(nodes, leaves, None)[target]
        error = distance(got, exact)
        once = roundoff(self.graph.types[target].dtype) * largest(exact)
        if error <= SAFETY / 2 * once:  # roundings of the result itself: no noise needed
            return Difference(largest(exact), error, max(LEAST, SAFETY * once))
        explained = self.spread(nodes, leaves, {target: exact})[target]
        return Difference(largest(exact), error, explained)


def wide(array: Array) -> Array:
    """The array, floats in float64."""
    return array.astype(np.float64) if DType.of(array.dtype).is_float else array


def roundoff(dtype: DType) -> float:
    """Half a unit in the last place of 1; 0 for dtypes that are exact."""
    digits = {DType.float64: 53, DType.float32: 24, DType.float16: 11, DType.bfloat16: 8}
    return 2.0 ** -digits[dtype] if dtype in digits else 0.0


def terms(node: Node, arrays: list[Array], graph: Graph, symbols: Mapping[str, int]) -> float:
    """About how many numbers are added up for one element of a node's output."""
    shape: Any = graph.types[node.outputs[0]].evaluate(symbols).shape
    size = max(1, int(math.prod(shape)))
    if isinstance(node.op, PRODUCTS):
        return max(1.0, math.sqrt(float(arrays[0].size) * arrays[1].size / size))
    return max(1.0, float(max((a.size for a in arrays), default=1)) / size)


def shaken(array: Array, size: float, rng: np.random.Generator) -> Array:
    """The array with each float changed by a random relative amount up to `size`."""
    if array.dtype.kind != "f" or not size:
        return array
    return np.asarray(array * (1 + size * rng.uniform(-1, 1, array.shape)))


def biased(array: Array, size: float, rng: np.random.Generator) -> Array:
    """The array, if of floats, up or down by one relative amount."""
    return array * (1 + size * rng.choice((-1, 1))) if array.dtype.kind == "f" else array


def largest(array: Array) -> float:
    """The largest magnitude among the finite elements."""
    finite = np.abs(array.astype(np.float64))
    finite = finite[np.isfinite(finite)]
    return float(finite.max()) if finite.size else 0.0


def distance(got: Array, exact: Array) -> float:
    """max |got - exact|; infinite where only one of them is finite, or where their shapes differ."""
    if got.shape != exact.shape:
        return math.inf
    a, b = got.astype(np.float64), exact.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=math.inf).max()) if apart.size else 0.0
