"""The driver's steps: verification names the step whose result breaks a rule."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convc_runtime import load

from convc import driver
from convc.errors import IRError, UsageError
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.keras import applications
from convc.loops.ir import Kernel
from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.manager import PassError
from convc.program.ir import Program, RegionKind
from convc.target import TARGETS

TEXT = """
graph two(x: float32[N, 4, 6, 6]) -> (y) {
  weight w: float32[8, 4, 3, 3]
  a = conv2d(x, w) {padding=((1, 1), (1, 1))} from "conv"
  b = relu(a) from "conv"
  y = max_pool2d(b) {kernel=(2, 2), stride=(2, 2)} from "pool"
}
"""


def planned(target: str = "x86-64-avx2", **options: Any) -> driver.Planned:
    graph = parse_graph(TEXT, {"w": np.ones((8, 4, 3, 3), np.float32)})
    found = driver.Options(**options)
    return driver.plan_graphs("two", {"predict": graph}, TARGETS[target], found)


def twice(kernel: Kernel) -> Kernel:
    return replace(kernel, body=kernel.body * 2)


def overlapping(program: Program) -> Program:
    moved = (replace(r, offset=0) if r.kind is RegionKind.arena else r for r in program.regions)
    return replace(program, regions=tuple(moved), arena=0)


def after(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **options: change(function(*args, **options))


@pytest.mark.parametrize("target", ["x86-64-avx2", "cuda-sm80"])
def test_a_sound_compilation_passes(target: str) -> None:
    assert planned(target, verify=True).program.kernels


def relu() -> Graph:
    return parse_graph("graph relu(x: float32[N, 4]) -> (y) { y = relu(x) }", {})


def test_the_threads_of_a_model_are_saved_with_it(tmp_path: Path) -> None:
    compiled = driver.compile(relu(), threads=3)
    assert compiled.model.threads == 3
    compiled.save(tmp_path / "relu.cvc")
    assert load(tmp_path / "relu.cvc").threads == 3


@pytest.mark.parametrize("threads", [0, 1025, True, "2", 2.0])
def test_what_is_no_number_of_threads_is_refused(threads: Any) -> None:
    with pytest.raises(UsageError, match=f"threads: expected 1 to 1024, got {threads!r}"):
        driver.compile(relu(), threads=threads)


@pytest.mark.parametrize(("model", "kind"), [(5, "an int"), (2.0, "a float")])
def test_what_is_no_model_is_refused(model: Any, kind: str) -> None:
    with pytest.raises(UsageError, match=f"expected a model or a path, got {kind}$"):
        driver.compile(model)


NETWORKS = ("ResNet50", "MobileNetV2", "VGG16", "DenseNet121", "InceptionV3", "EfficientNetB0")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", ["x86-64-avx512", "cuda-sm80"])
def test_every_step_of_the_applications_is_sound(name: str, target: str) -> None:
    model = getattr(applications, name)(
        weights=None, input_shape=(75, 75, 3), include_top=False, pooling="avg"
    )
    driver.plan_graphs(name, model.graphs(), TARGETS[target], driver.Options(verify=True))


def test_tests_verify_unless_told_otherwise() -> None:
    assert driver.Options().verify
    assert not driver.Options(verify=False).verify


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("convc.driver.lower", lambda p: replace(p, weights={}), r"^lowered program: .*no array"),
        ("convc.schedule.tiled.finish", twice, r"^schedule of \w+: kernel .*parallel loops"),
        ("convc.driver.plan_memory", overlapping, r"^planned program: .*workspace has 0 bytes"),
    ],
)
def test_a_step_that_breaks_a_rule_is_named(
    monkeypatch: pytest.MonkeyPatch, place: str, change: Callable[[Any], Any], message: str
) -> None:
    module, _, name = place.rpartition(".")
    honest = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(place, after(honest, change))
    with pytest.raises(IRError, match=message):
        planned(verify=True)


def test_a_pass_that_breaks_a_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EliminateDeadCode, "__call__", lambda self, g: replace(g, outputs=("z",)))
    with pytest.raises(PassError, match="pass eliminate-dead-code failed"):
        planned(verify=True)


def test_for_size_weights_take_what_the_models_take() -> None:
    wide = TEXT.replace("[8, 4, 3, 3]", "[64, 64, 3, 3]").replace("[N, 4, 6, 6]", "[N, 64, 14, 14]")
    w = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32)
    graph = parse_graph(wide, {"w": w})
    fast, small = (driver.compile(graph, optimize=goal) for goal in ("speed", "size"))
    summary = small.compiled.summary
    assert fast.compiled.summary.weight_bytes > 1.7 * w.nbytes
    assert summary.raw_weight_bytes == w.nbytes
    assert summary.weight_bytes <= 1.05 * w.nbytes
    assert small.compiled.artifact.weights.size == summary.weight_bytes
    x = np.random.default_rng(1).standard_normal((2, 64, 14, 14)).astype(np.float32)
    np.testing.assert_allclose(small(x), fast(x), atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_for_size_the_applications_weights_grow_by_a_twentieth_at_most(name: str) -> None:
    arguments = {"include_top": False, "input_shape": (224, 224, 3)} if name == "VGG16" else {}
    graphs = getattr(applications, name)(weights=None, **arguments).graphs()
    options = driver.Options(optimize="size", verify=False)
    planned = driver.plan_graphs(name, graphs, TARGETS["x86-64-avx512"], options)
    summary = driver.summary_of(planned.program, graphs)
    assert summary.weight_bytes <= 1.05 * summary.raw_weight_bytes


def test_a_goal_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="optimize: expected one of speed, size, got 'fast'"):
        driver.compile(relu(), optimize="fast")
