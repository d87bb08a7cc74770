"""Whole programs as CUDA source: from a graph to a run on the host, checked against the graph's own meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convc.ops  # noqa: F401  (registers the operators that the text names)
from convc.codegen.cuda_program import generate_program
from convc.errors import IRError
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.loops.memory import pack
from convc.lower.program import lower
from convc.plan.memory import plan_memory
from convc.program.ir import Program, RegionKind
from convc.schedule.cuda import schedule_program
from convc.target import TARGETS
from convc.types import evaluate
from tests.codegen.cuda_host import build_host_program, compile_device, run

Array = NDArray[Any]
TARGET = TARGETS["cuda-sm80"]
TEXT = """
graph cnn(x: float32[N, 3, 9, 8]) -> (y, p) {
  weight w1: float32[8, 3, 3, 3]
  weight b1: float32[8, 1, 1]
  weight w2: float32[8, 1, 3, 3]
  weight w3: float32[128, 10]
  a = conv2d(x, w1) {padding=((1, 1), (1, 1))} from "conv1"
  b = add(a, b1) from "conv1"
  c = relu(b) from "conv1"
  d = conv2d(c, w2) {padding=((1, 1), (1, 1)), groups=8} from "depthwise"
  e = add(d, c) from "add"
  p = max_pool2d(e) {kernel=(2, 2), stride=(2, 2)} from "pool"
  f = reshape(p) {shape=(N, 128)} from "flatten"
  g = mat_mul(f, w3) from "dense"
  y = tanh(g) from "dense"
}
"""


def graph() -> Graph:
    rng = np.random.default_rng(3)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8, 1, 1), "w2": (8, 1, 3, 3), "w3": (128, 10)}
    weights = {
        name: (rng.standard_normal(s) * 0.2).astype(np.float32) for name, s in shapes.items()
    }
    return parse_graph(TEXT, weights)


GRAPH = graph()
PROGRAM = plan_memory(schedule_program(lower({"predict": GRAPH})))
SOURCE = generate_program(PROGRAM, TARGET)


def weight_bytes(program: Program) -> bytes:
    """The weights' memory: each region's array in the layout of the parameter that reads it, at its offset."""
    parameters = {
        argument.region: buffer
        for entry in program.entries
        for step in entry.steps
        for buffer, argument in zip(program.kernels[step.kernel].params, step.args, strict=True)
    }
    memory = bytearray()
    for region in program.regions:
        if region.kind is RegionKind.weight:
            assert isinstance(region.offset, int)
            content = pack(program.weights[region.name], parameters[region.name], {}).tobytes()
            memory.extend(bytes(max(0, region.offset + len(content) - len(memory))))
            memory[region.offset : region.offset + len(content)] = content
    return bytes(memory)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host_program(SOURCE, PROGRAM.entries[0], tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_network_runs_to_its_graphs_numbers(n: int, program: Path) -> None:
    x = np.random.default_rng(n).standard_normal((n, 3, 9, 8)).astype(np.float32)
    expected: dict[str, Any] = dict(run_graph(GRAPH, {"x": x}))
    folder = program.parent
    (folder / "weights").write_bytes(weight_bytes(PROGRAM))
    (folder / "x").write_bytes(x.tobytes())
    for port in PROGRAM.entries[0].outputs:
        size = int(np.prod([evaluate(e, {"N": n}) for e in port.type.shape])) * 4
        (folder / port.name).write_bytes(b"\xff" * size)
    names = ["weights", "x", *(port.name for port in PROGRAM.entries[0].outputs)]
    run([str(program), str(n), *(str(folder / name) for name in names), str(n)])
    for port in PROGRAM.entries[0].outputs:
        shape = tuple(evaluate(e, {"N": n}) for e in port.type.shape)
        got: Any = np.frombuffer((folder / port.name).read_bytes(), np.float32).reshape(shape)
        np.testing.assert_allclose(got, expected[port.name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_a_network_compiles_for_gpus_without_warnings(architecture: str, tmp_path: Path) -> None:
    compile_device(SOURCE, architecture, tmp_path)


def test_the_source_names_layers_and_ports() -> None:
    assert "// input 0: x float32[N, 3, 9, 8]" in SOURCE
    assert "// output 1: p float32[N, 8, 4, 4]" in SOURCE
    assert SOURCE.index("// conv1") < SOURCE.index("// depthwise") < SOURCE.index("// dense")


def test_memory_must_be_planned_first() -> None:
    with pytest.raises(IRError, match="has no offset: plan memory first"):
        generate_program(schedule_program(lower({"predict": GRAPH})), TARGET)
