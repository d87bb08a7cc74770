"""The error of each kernel of a compiled model against a float64 run of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.cli.building import Built
from convc.cli.sizes import free_sizes, random_array
from convc.cli.stepping import Stepper
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.program.ir import Step
from convc.types import DType

Array = NDArray[Any]


@dataclass(frozen=True)
class Compared:
    """A model's values, and the sizes that it leaves free, with which they were computed."""

    rows: list[Comparison]
    sizes: dict[str, int]

    @property
    def outputs(self) -> list[Comparison]:
        return [row for row in self.rows if row.is_output]


@dataclass(frozen=True)
class Comparison:
    """One value of the compiled model. `error` is max |y - y64| / max |y64|."""

    layers: tuple[str, ...]
    operators: str
    largest: float
    difference: float
    is_output: bool

    @property
    def error(self) -> float:
        if not np.isfinite(self.difference):
            return float("inf")
        return self.difference / self.largest if self.largest else self.difference

    @property
    def is_finite(self) -> bool:
        """Whether float64 has numbers to compare with."""
        return bool(np.isfinite(self.largest))

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers),
            "operators": self.operators,
            "largest": self.largest,
            "difference": self.difference,
            "error": self.error,
            "is_output": self.is_output,
        }

    def cells(self) -> tuple[str, ...]:
        return (
            " + ".join(self.layers) or "-",
            self.operators,
            f"{self.largest:.4g}",
            f"{self.difference:.2e}",
            f"{self.error:.2e}",
        )


def compare(built: Built, batch: int, seed: int) -> Compared:
    """Every computed value of the first entry, then its outputs, on random inputs: normal floats, small integers.

    Outputs are held against the model's own graph; what lies between against the graph that was lowered, whose values
    have the names that the steps know.
    """
    program = built.program
    entry = program.entries[0]
    artifact = built.artifact
    graph, rng = built.compiled.graphs[entry.name], np.random.default_rng(seed)
    sizes = free_sizes(graph, batch)
    inputs = {n: random_array(graph.types[n].evaluate(sizes), rng) for n in graph.inputs}
    stepper = Stepper(program, entry, artifact, inputs)
    wanted = float64_values(built.compiled.graphs[entry.name], inputs)
    found = []
    for position, step in enumerate(entry.steps):
        stepper.run(position)
        if step.value in wanted:
            y = stepper.written(position)
            found.append(comparison(step, operators(built, step), y, wanted[step.value], False))
    final = float64_values(built.graphs[entry.name], inputs)
    for port, name in zip(entry.outputs, built.graphs[entry.name].outputs, strict=True):
        if port.is_requirement:
            continue
        y = stepper.outputs[port.name]
        found.append(comparison(Step("", (), (port.name,)), "output", y, final[name], True))
    return Compared(found, sizes)


def float64_values(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Every value of a graph, computed in float64 by the operators' references."""
    wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
    return run_graph(graph, wide, DType.float64, keep=True)


def operators(built: Built, step: Step) -> str:
    return dict(built.program.kernels[step.kernel].notes).get("ops", "")


def comparison(step: Step, ops: str, y: Array, wanted: Array, is_output: bool) -> Comparison:
    """The largest value and the largest difference of an array and its float64 counterpart."""
    wide = wanted.astype(np.float64)
    if y.size == 0:
        return Comparison(step.layers, ops, 0.0, 0.0, is_output)
    with np.errstate(invalid="ignore"):  # inf - inf: the difference is no number then
        difference = float(np.max(np.abs(y.astype(np.float64).reshape(wide.shape) - wide)))
    return Comparison(step.layers, ops, float(np.max(np.abs(wide))), difference, is_output)
