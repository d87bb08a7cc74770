"""Whole programs as CUDA source: from a graph to a run on the host, checked against the graph's own meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convc.ops  # noqa: F401  (registers the operators that the text names)
from convc.codegen.cuda_program import generate_program
from convc.driver import placed_weights
from convc.errors import IRError
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.lower.program import lower
from convc.passes.pipelines import PIPELINES
from convc.plan.memory import plan_memory
from convc.program.ir import Program
from convc.schedule.program import schedule
from convc.target import TARGETS
from convc.types import evaluate
from tests.codegen.cuda_host import build_host_program, compile_device, run

Array = NDArray[Any]
TARGET = TARGETS["cuda-sm80"]
TEXTS = {
    "plain": """
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
""",
    "branches": """
graph branches(x: float32[N, 4, 7, 6]) -> (y) {
  weight w1: float32[12, 4, 1, 1]
  weight w2: float32[12, 9, 3, 3]
  weight w3: float32[24, 11]
  weight gamma: float32[12]
  weight beta: float32[12]
  a = conv2d(x, w1) from "reduce"
  b = batch_norm(a, gamma, beta, beta, gamma) {axis=1, epsilon=0.001} from "norm\\\\"
  c = silu(b) from "swish"
  d = avg_pool2d(c) {kernel=(2, 2), stride=(2, 2), padding=((0, 1), (0, 0))} from "average"
  e = conv_transpose2d(d, w2) {stride=(2, 2), padding=((1, 0), (1, 0))} from "up"
  f = reduce_mean(e) {axes=(2, 3), keepdims=false} from "mean"
  g = reduce_max(d) {axes=(2, 3), keepdims=false} from "max"
  h = slice(f) {starts=(0, 0), ends=(none, 9), steps=(1, 1)} from "slice"
  i = concat(h, g) {axis=1} from "concat"
  j = pad(i) {pads=((0, 0), (1, 2))} from "pad"
  k = mat_mul(j, w3) from "dense"
  y = softmax(k) {axis=1} from "softmax"
}
""",
}


def graph(name: str) -> Graph:
    """A graph of the texts, its weights random."""
    rng = np.random.default_rng(3)
    weights = {}
    for weight, shape in re.findall(r"weight (\w+): float32\[(.*)\]", TEXTS[name]):
        sizes = [int(n) for n in shape.split(",")]
        weights[weight] = rng.uniform(0.1, 0.4, sizes).astype(np.float32)
        if weight.startswith("w"):
            weights[weight] -= np.float32(0.25)
    return parse_graph(TEXTS[name], weights)


def program_of(name: str) -> Program:
    """The graph through the whole compiler, scheduled for a GPU."""
    prepared = PIPELINES["inference"].run(graph(name))
    return plan_memory(schedule(lower({"predict": prepared}), TARGET))


GRAPHS = {name: graph(name) for name in TEXTS}
PROGRAMS = {name: program_of(name) for name in TEXTS}
SOURCES = {name: generate_program(program, TARGET) for name, program in PROGRAMS.items()}


def weight_bytes(program: Program) -> bytes:
    """The weights' memory: each region's array at its offset."""
    memory = bytearray()
    for offset, array in placed_weights(program):
        memory.extend(bytes(offset - len(memory)))
        memory.extend(array.tobytes())
    return bytes(memory)


@pytest.fixture(scope="module", params=TEXTS)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A network's name and its program for this machine."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    return name, build_host_program(SOURCES[name], PROGRAMS[name].entries[0], folder)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_network_runs_to_its_graphs_numbers(n: int, built: tuple[str, Path]) -> None:
    name, program = built
    entry = PROGRAMS[name].entries[0]
    shape = tuple(evaluate(e, {"N": n}) for e in entry.inputs[0].type.shape)
    x = np.random.default_rng(n).standard_normal(shape).astype(np.float32)
    expected: dict[str, Any] = dict(run_graph(GRAPHS[name], {"x": x}))
    folder = program.parent
    (folder / "weights").write_bytes(weight_bytes(PROGRAMS[name]))
    (folder / "x").write_bytes(x.tobytes())
    for port in entry.outputs:
        size = int(np.prod([evaluate(e, {"N": n}) for e in port.type.shape])) * 4
        (folder / port.name).write_bytes(b"\xff" * size)
    names = ["weights", "x", *(port.name for port in entry.outputs)]
    run([str(program), str(n), *(str(folder / name) for name in names), str(n)])
    for port in entry.outputs:
        shape = tuple(evaluate(e, {"N": n}) for e in port.type.shape)
        got: Any = np.frombuffer((folder / port.name).read_bytes(), np.float32).reshape(shape)
        np.testing.assert_allclose(got, expected[port.name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_a_network_compiles_for_gpus_without_warnings(
    name: str, architecture: str, tmp_path: Path
) -> None:
    compile_device(SOURCES[name], architecture, tmp_path)


def test_the_source_names_layers_and_ports() -> None:
    source = SOURCES["plain"]
    assert "// input 0: x float32[N, 3, 9, 8]" in source
    assert "// output 1: p float32[N, 8, 4, 4]" in source
    assert source.index("// conv1") < source.index("// depthwise") < source.index("// dense")


def test_a_comment_ends_where_its_line_does() -> None:
    assert "\\\n" not in SOURCES["branches"]


def test_memory_must_be_planned_first() -> None:
    prepared = PIPELINES["inference"].run(GRAPHS["plain"])
    with pytest.raises(IRError, match="has no offset: plan memory first"):
        generate_program(schedule(lower({"predict": prepared}), TARGET), TARGET)
