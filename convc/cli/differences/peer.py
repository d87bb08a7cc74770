"""An ONNX model in another runtime, node by node: each against float64 on what that runtime's nodes before it gave."""

from __future__ import annotations

from collections.abc import Mapping

from convc.cli.differences.findings import Fault, Row, range_of
from convc.cli.differences.rounding import Array, Oracle
from convc.onnx import importer as onnx_importer


def node_rows(
    model: onnx_importer.Imported,
    nodes: Mapping[str, tuple[str, str]],
    who: str,
    theirs: Mapping[str, Array],
    inputs: Mapping[str, Array],
    symbols: Mapping[str, int],
) -> dict[str, Row]:
    """By the ONNX value's name: what a runtime computed against convc's graph in float64 on the runtime's own inputs.

    `nodes` has the name and the operator of the node that makes each value.
    """
    oracle = Oracle(model.graph, symbols)
    leaves: dict[str, Array] = dict(inputs)
    rows: dict[str, Row] = {}
    for onnx_name, (layer, kind) in nodes.items():
        value = model.names.get(onnx_name)
        if value is None or onnx_name not in theirs or value not in oracle.producers:
            continue
        got = theirs[onnx_name]
        between = oracle.part(value, leaves)
        read = [leaves[i] for n in between for i in n.inputs if i in leaves]
        difference = oracle.compare(value, got, leaves)
        rows[onnx_name] = Row(who, layer, kind, *range_of(read), difference)
        leaves[value] = got
    return rows


def judge(
    peer: str, rows: Mapping[str, Row], exact: Mapping[str, Row] | None, tolerance: float
) -> tuple[list[Fault], list[Fault]]:
    """The first node where a peer is off, and the first that convc reads as another function than ONNX' definition.

    `exact` are the rows of ONNX' reference evaluator in float64, if it ran: two against one. Where it is alone against
    the peer and convc, that is told apart, as the second list.
    """

    def off(found: Mapping[str, Row] | None, name: str) -> bool:
        row = found.get(name) if found else None
        return row is not None and row.difference.ratio > tolerance

    faults: dict[str, Fault] = {}
    alone: dict[str, Fault] = {}
    for name, row in rows.items():
        theirs, definition = off(rows, name), off(exact, name)
        known = exact is not None and name in exact
        if theirs and (definition or not known):
            step = f"import of {row.operators}, or its operators' references"
            if not known:
                step += f" (or {peer}: there is no third opinion)"
            faults.setdefault("convc", Fault("convc", row.layer, row.operators, step, row))
        elif theirs:
            step = f"its {row.operators}"
            faults.setdefault(peer, Fault(peer, row.layer, row.operators, step, row))
        elif definition and peer != "reference" and exact is not None:
            step = f"its {row.operators}; {peer} and convc agree"
            fault = Fault("reference", row.layer, row.operators, step, exact[name])
            alone.setdefault("reference", fault)
    return list(faults.values()), list(alone.values())
