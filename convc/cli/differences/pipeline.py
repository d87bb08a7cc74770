"""The passes, one after the other, in float64: the first after which the model computes something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convc.cli.differences.findings import Fault, Row, range_of
from convc.cli.differences.rounding import Array, Difference, Oracle, distance, largest
from convc.graph.interp import bind_symbols
from convc.graph.ir import Graph, Node
from convc.graph.requirements import results_of


@dataclass(frozen=True)
class Truth:
    """A model's graph in float64 on some inputs: all values, its outputs, and how far rounding may move those."""

    values: Mapping[str, Array]
    outputs: Mapping[str, Array]
    explained: Mapping[str, float]


def truth_of(graph: Graph, inputs: Mapping[str, Array]) -> Truth:
    oracle = Oracle(graph, bind_symbols(graph, inputs))
    values = oracle.run(graph.nodes, inputs, None)
    outputs = {n: values[n] for n in results_of(graph) if n in values}
    return Truth(values, outputs, oracle.spread(list(graph.nodes), inputs, outputs))


def pass_rows(
    graph: Graph,
    after: list[tuple[str, Graph]],
    truth: Truth,
    inputs: Mapping[str, Array],
    tolerance: float,
) -> tuple[list[Row], Fault | None]:
    """A row for what all passes made; where that is off, one for each pass up to the first that is.

    Weights that passes fold are rounded to their dtype: so much is explained, as noise on every operator.
    """
    if not after:
        return [], None
    values = float64_values(after[-1][1], inputs)
    row = pass_row("all passes", graph, after[-1][1], values, truth, inputs)
    if row.difference.ratio <= tolerance:
        return [row], None
    rows: list[Row] = []
    last, before = graph, truth.values
    for name, changed in after:
        if changed.nodes == last.nodes and same_weights(last, changed):
            continue
        values = float64_values(changed, inputs)
        rows.append(pass_row(name, last, changed, values, truth, inputs))
        worst = rows[-1].difference
        if worst.ratio > tolerance:
            node = first_changed(changed, before, values, worst)
            leaves = {**inputs, **values}
            read = [leaves[i] for i in node.inputs if i in leaves]
            place = Row("pass", node.layer, node.op.mnemonic, *range_of(read), worst)
            return rows, Fault("convc", node.layer, node.op.mnemonic, f"pass {name}", place)
        last, before = changed, values
    return rows, None


def float64_values(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return Oracle(graph, bind_symbols(graph, inputs)).run(graph.nodes, inputs, None)


def pass_row(
    name: str,
    last: Graph,
    changed: Graph,
    values: Mapping[str, Array],
    truth: Truth,
    inputs: Mapping[str, Array],
) -> Row:
    """How far the outputs moved, for the output that moved most beyond what rounding explains."""
    found = [
        Difference(largest(a), distance(values.get(n, np.zeros(0)), a), truth.explained[n])
        for n, a in truth.outputs.items()
    ]
    worst = max(found, key=lambda d: d.ratio, default=Difference(0, 0, 0))
    nodes = f"{len(last.nodes)} to {len(changed.nodes)} nodes"
    return Row("pass", name, nodes, *range_of(list(inputs.values())), worst)


def same_weights(a: Graph, b: Graph) -> bool:
    return all(a.weights.get(n) is w for n, w in b.weights.items())


def first_changed(
    graph: Graph, before: Mapping[str, Array], now: Mapping[str, Array], worst: Difference
) -> Node:
    """The first node whose value, known by the same name before the pass, holds other numbers now.

    Passes move dimensions: the numbers count, not their order. Where no name was kept, the last node.
    """
    limit = worst.explained / max(worst.largest, 1e-300)
    for node in graph.nodes:
        for name in node.outputs:
            if name in before and differs(before[name], now[name], limit):
                return node
    return graph.nodes[-1]


def differs(a: Array, b: Array, limit: float) -> bool:
    if a.size != b.size:
        return False
    x, y = (np.sort(v.astype(np.float64), axis=None) for v in (a, b))
    return distance(y, x) > limit * largest(x)
