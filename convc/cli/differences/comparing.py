"""A whole comparison: the passes, the kernels and, for an ONNX model, another runtime's nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.cli.building import Request, build
from convc.cli.differences.findings import Fault, Row, range_of
from convc.cli.differences.native import kernel_rows
from convc.cli.differences.peer import judge, node_rows
from convc.cli.differences.pipeline import Truth, pass_rows, truth_of
from convc.cli.differences.rounding import Array, Difference, distance, largest
from convc.cli.sizes import free_sizes, random_array
from convc.driver import Compiled, Options
from convc.errors import DataError, InputFileError
from convc.graph.interp import bind_symbols
from convc.graph.ir import Graph
from convc.onnx.importer import Imported, import_traced
from convc.onnx.peers import PeerError, run_onnxruntime, run_reference
from convc.onnx.reading import read_whole_model
from convc.program.ir import REQUIRE
from convc.types import symbols_of

PEERS = ("float64", "reference", "onnxruntime")
Shapes = Mapping[str, int | tuple[int, ...]]


@dataclass(frozen=True)
class Comparison:
    """What was found: rows in order, faults, and what could not be tried."""

    name: str
    rows: Sequence[Row]
    outputs: Sequence[Row]
    faults: Sequence[Fault]
    notes: Sequence[str]


def compare(
    source: str,
    against: str,
    target: str,
    shapes: Shapes,
    given: Mapping[str, Array],
    batch: int,
    seed: int,
    tolerance: float,
    options: Options,
) -> Comparison:
    """Runs a model every way there is and says where they part."""
    built = build(Request(source, target, keep=True, options=options, shapes=shapes))
    assert isinstance(built.compiled, Compiled)
    entry = built.program.entries[0]
    graph = built.graphs[entry.name]
    inputs = inputs_of(graph, given, batch, seed)
    truth = truth_of(graph, inputs)
    require_held(truth)
    rows: list[Row] = []
    faults: list[Fault] = []
    notes: list[str] = []
    theirs: Mapping[str, Array] = {}
    if against != "float64":
        peer = against_peer(source, against, shapes, inputs, truth, tolerance)
        rows, faults, notes, theirs = (
            list(peer.rows),
            list(peer.faults),
            list(peer.notes),
            peer.outputs,
        )
    after = [(s.name, s.result) for s in built.stages.all if isinstance(s.result, Graph)][1:]
    if len(built.graphs) == 1:
        found, fault = pass_rows(graph, after, truth, inputs, tolerance)
        rows += found
        faults += [fault] if fault else []
    found, fault, ours = kernel_rows(built.compiled, entry, built.artifact, inputs, tolerance)
    rows += found
    faults += [fault] if fault else []
    outputs = output_rows(truth, {"convc": ours, against: theirs})
    faults += unplaced(outputs, faults, tolerance)
    return Comparison(built.name, rows, outputs, faults, notes)


def require_held(truth: Truth) -> None:
    """DataError where the inputs need more than the model was compiled for: its runs fail then."""
    for name, held in truth.values.items():
        if name.startswith(REQUIRE) and not held:
            raise DataError(
                f"these data need more than the model is compiled for: {name.removeprefix(REQUIRE)}: give others by "
                f"--input, or more by --shape"
            )


def inputs_of(graph: Graph, given: Mapping[str, Array], batch: int, seed: int) -> dict[str, Array]:
    """The arrays that were given, and random ones for the other inputs: normal floats, small integers."""
    unknown = [n for n in given if n not in graph.inputs]
    if unknown:
        raise DataError(
            f"--input: no input is called {unknown[0]!r}: expected {', '.join(graph.inputs)}"
        )
    rng = np.random.default_rng(seed)
    free = {str(s) for s in symbols_of(e for n in graph.inputs for e in graph.types[n].shape)}
    known: dict[str, int] = {}
    for name, array in given.items():
        for extent, number in zip(graph.types[name].shape, array.shape, strict=False):
            known |= {str(extent): number} if str(extent) in free else {}
    symbols = free_sizes(graph, batch, known)
    return {
        n: given[n] if n in given else random_array(graph.types[n].evaluate(symbols), rng)
        for n in graph.inputs
    }


# ---------------------------------------------------------------- another runtime


@dataclass(frozen=True)
class Peer:
    rows: Sequence[Row]
    faults: Sequence[Fault]
    notes: Sequence[str]
    outputs: Mapping[str, Array]


def against_peer(
    source: str,
    against: str,
    shapes: Shapes,
    inputs: Mapping[str, Array],
    truth: Truth,
    tolerance: float,
) -> Peer:
    """The nodes of an ONNX model in another runtime and in ONNX' reference evaluator, in float64."""
    traced = import_traced(source, shapes)
    model = whole_model(source)
    symbols = bind_symbols(traced.graph, inputs)
    nodes = {
        o: (n.name or f"{n.op_type} {k}", n.op_type)
        for k, n in enumerate(model.graph.node)
        for o in n.output
        if o
    }
    notes: list[str] = []
    faults: list[Fault] = []
    exact = None
    try:
        double = run_reference(model, inputs, wide=True)
        exact = node_rows(traced, nodes, "reference", double, inputs, symbols)
    except PeerError as error:
        notes.append(f"no third opinion: {error}")
    if against == "reference":
        theirs = run_reference(model, inputs)
        final = theirs
    else:
        final = run_onnxruntime(model, inputs)
        theirs = run_onnxruntime(model, inputs, inner_names(nodes, traced), optimized=False)
        faults = fusion_fault(truth, theirs, final, tolerance)
    rows = node_rows(traced, nodes, against, theirs, inputs, symbols)
    found, alone = judge(against, rows, exact, tolerance)
    faults = found or faults
    notes += [fault.text() for fault in alone]
    return Peer(
        list(rows.values()),
        faults,
        notes,
        {n: final[n] for n in traced.graph.outputs if n in final},
    )


def inner_names(nodes: Mapping[str, tuple[str, str]], traced: Imported) -> list[str]:
    """The ONNX values that convc's graph has too."""
    return [n for n in nodes if n in traced.names]


def whole_model(source: str) -> Any:
    """The model with its external data, which the import has checked already."""
    if not source.endswith(".onnx"):
        raise InputFileError(
            f"{source}: expected an ONNX model to compare with another runtime: use --against float64"
        )
    return read_whole_model(source)


def fusion_fault(
    truth: Truth, apart: Mapping[str, Array], fused: Mapping[str, Array], tolerance: float
) -> list[Fault]:
    """ONNX Runtime's optimizer, where the model as it is gives other outputs than its nodes one by one."""
    for name, exact in truth.outputs.items():
        if name not in apart or name not in fused:
            continue
        allowed = tolerance * truth.explained[name]
        if distance(apart[name], exact) <= allowed < distance(fused[name], exact):
            step = f"its graph optimizer: {name!r} is right node by node"
            return [Fault("onnxruntime", "", "", step)]
    return []


# ---------------------------------------------------------------- the outputs


def output_rows(truth: Truth, by: Mapping[str, Mapping[str, Array]]) -> list[Row]:
    """A row for each output of each runtime, errors from the inputs on."""
    rows = []
    for who, outputs in by.items():
        for name, exact in truth.outputs.items():
            if name in outputs:
                error = distance(outputs[name], exact)
                found = Difference(largest(exact), error, truth.explained[name])
                rows.append(Row(who, name, "output", *range_of([exact]), found))
    return rows


def unplaced(outputs: Sequence[Row], faults: Sequence[Fault], tolerance: float) -> list[Fault]:
    """Outputs that are off although every step by itself is explained."""
    known = {f.who for f in faults}
    return [
        Fault(row.stage, "", "output", f"{row.layer!r} is off, though no single step is", row)
        for row in outputs
        if row.difference.ratio > tolerance and row.stage not in known
    ]
