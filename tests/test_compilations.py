"""Compilations out of the cache are what they are without it, for every model whose entry it is, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convc_runtime import load

from convc import compilations, driver
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.program.printer import print_program
from convc.target import TARGETS

TEXT = """
graph net(x: float32[N, 8, 12, 12]) -> (y) {
  weight w: float32[32, 8, 3, 3]
  weight gamma: float32[32]
  weight beta: float32[32]
  weight mean: float32[32]
  weight variance: float32[32]
  weight v: float32[3, 3, 32, 32]
  weight d: float32[32, 20]
  a = conv2d(x, w) {padding=((1, 1), (1, 1))} from "conv"
  b = batch_norm(a, gamma, beta, mean, variance) {axis=1} from "norm"
  c = relu(b) from "norm"
  t = transpose(v) {perm=(3, 2, 0, 1)} from "second"
  e = conv2d(c, t) {padding=((1, 1), (1, 1))} from "second"
  p = reduce_mean(e) {axes=(2, 3)} from "pool"
  y = mat_mul(p, d) from "dense"
}
"""
LOOKING = """
graph looking(x: float32[N, 8, 6, 6]) -> (y) {
  weight shift: float32[8, 1, 1]
  weight w: float32[32, 8, 1, 1]
  a = relu(x)
  b = add(a, shift)
  y = conv2d(b, w)
}
"""
TWICE = """
graph twice(x: float32[N, 16]) -> (y) {
  weight w: float32[16, 16]
  weight v: float32[16, 16]
  a = mat_mul(x, w)
  b = relu(a)
  y = mat_mul(b, v)
}
"""
OPTIONS = driver.Options(verify=False)
HOST = driver.host_target()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {n: random.uniform(0.5, 1.5, s).astype(np.float32) for n, s in shapes.items()}


def net(seed: int = 0, text: str = TEXT, **replaced: np.ndarray) -> Graph:
    norm = weights(5, gamma=(32,), beta=(32,), mean=(32,), variance=(32,))
    mine = weights(seed, w=(32, 8, 3, 3), v=(3, 3, 32, 32), d=(32, 20))
    return parse_graph(text, norm | mine | replaced)


def compiled(graph: Graph, options: driver.Options = OPTIONS, **more: Any) -> driver.Compiled:
    return driver.compile_graphs("net", {"predict": graph}, more.get("target", HOST), options)


def is_recalled(found: driver.Compiled) -> bool:
    return "passes" not in found.timings.seconds


def uncached(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> driver.Compiled:
    with monkeypatch.context() as without:
        without.setenv("CONVC_CACHE_DIR", "")
        return compiled(graph)


def assert_same(a: driver.Compiled, b: driver.Compiled) -> None:
    assert a.artifact.image == b.artifact.image
    assert a.artifact.description == b.artifact.description
    np.testing.assert_array_equal(a.artifact.weights, b.artifact.weights)
    assert a.rows == b.rows
    assert a.summary == b.summary


@pytest.mark.parametrize("seed", [0, 1], ids=["the same weights", "other weights"])
def test_a_recalled_compilation_is_what_a_fresh_one_is(
    seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not is_recalled(compiled(net()))
    found, fresh = compiled(net(seed)), uncached(monkeypatch, net(seed))
    assert is_recalled(found)
    assert not is_recalled(fresh)
    assert_same(found, fresh)
    found.artifact.save(tmp_path / "net.cvc")
    x = np.random.default_rng(2).standard_normal((3, 8, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(load(tmp_path / "net.cvc")(x), fresh.artifact.model()(x))


SCRIPT = """
import sys
import numpy as np
from convc import driver
from convc.graph.parser import parse_graph

text = "graph g(x: float32[N, 40]) -> (y) { weight w: float32[40, 30]  y = mat_mul(x, w) }"
w = np.random.default_rng().standard_normal((40, 30)).astype(np.float32)
found = driver.compile(parse_graph(text, {"w": w}), options=driver.Options(verify=False))
x = np.ones((2, 40), np.float32)
np.testing.assert_allclose(found(x), x @ w, rtol=1e-4, atol=1e-5)
print("passes" in found.compiled.timings.seconds, "llvmlite.binding" in sys.modules)
"""


def test_another_process_recalls_it_without_loading_llvm() -> None:
    lines = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert lines == [["True", "True"], ["False", "False"]]


def test_the_stages_of_a_recalled_compilation_can_be_asked_for() -> None:
    first, found = compiled(net()), compiled(net())
    assert is_recalled(found)
    assert print_program(found.program, kernels=True) == print_program(first.program, kernels=True)
    assert found.graphs["predict"].nodes == first.graphs["predict"].nodes


def test_another_compilation_is_not_recalled() -> None:
    compiled(net())
    others = {
        "a statistic": (net(mean=np.full(32, 0.25, np.float32)), OPTIONS, HOST),
        "an attribute": (net(text=TEXT.replace("{axis=1}", "{axis=1, epsilon=0.5}")), OPTIONS, HOST),
        "a layer": (net(text=TEXT.replace('"dense"', '"last"')), OPTIONS, HOST),
        "the mode": (net(), driver.Options("exact", verify=False), HOST),
        "the target": (net(), OPTIONS, TARGETS["x86-64-v2"]),
        "a checked one": (net(), driver.Options(verify=True), HOST),
    }  # fmt: skip
    for what, (graph, options, target) in others.items():
        assert not is_recalled(compiled(graph, options, target=target)), what
    assert is_recalled(compiled(net()))


def test_another_compilers_entries_are_not_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(net())
    monkeypatch.setattr(compilations, "compiler_fingerprint", lambda: "another")
    assert not is_recalled(compiled(net()))


def test_weights_that_are_one_array_are_told_from_equal_ones() -> None:
    one = weights(0, w=(16, 16))["w"]
    shared = compiled(parse_graph(TWICE, {"w": one, "v": one}))
    apart = compiled(parse_graph(TWICE, {"w": one, "v": one + 1}))
    assert not is_recalled(apart)
    x = np.ones((2, 16), np.float32)
    for found, second in ((shared, one), (apart, one + 1)):
        np.testing.assert_allclose(found.artifact.model()(x), x @ one @ second, rtol=1e-5)


def test_an_array_that_is_a_product_and_a_sum_is_told_from_equal_ones() -> None:
    text = """
    graph both(x: float32[N, 16]) -> (y) {
      weight w: float32[16, 16]
      weight b: float32[16, 16]
      weight v: float32[16, 16]
      a = mat_mul(x, w)
      c = mat_mul(a, v)
      d = reduce_sum(b) {axes=(0,)}
      y = add(c, d)
    }
    """
    one, other = weights(0, w=(16, 16))["w"], weights(1, w=(16, 16))["w"]
    x = np.ones((2, 16), np.float32)
    for b in (one, one.copy()):
        found = compiled(parse_graph(text, {"w": one, "b": b, "v": other}))
        assert not is_recalled(found)
        np.testing.assert_allclose(
            found.artifact.model()(x), x @ one @ other + one.sum(0), rtol=1e-5
        )


def test_a_compilation_that_looked_at_weights_is_not_kept() -> None:
    for seed in (0, 0, 1):
        graph = parse_graph(LOOKING, weights(seed, shift=(8, 1, 1), w=(32, 8, 1, 1)))
        assert not is_recalled(compiled(graph))


def test_constants_that_are_the_models_are_not_kept_twice(cache: Path) -> None:
    text = (
        "graph table(x: int32[N]) -> (y) { weight t: float32[5000, 64]  y = gather(t, x) {axis=0} }"
    )
    table = weights(0, t=(5000, 64))
    for _ in range(2):
        found = compiled(parse_graph(text, table))
    assert is_recalled(found)
    x = np.array([7, 4999], np.int32)
    np.testing.assert_array_equal(found.artifact.model()(x), table["t"][x])
    assert sum(f.stat().st_size for f in cache.iterdir()) < 200_000
    assert not is_recalled(compiled(parse_graph(text, {"t": table["t"] + 1})))


def test_too_many_constants_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilations, "LARGEST", 100)
    compiled(net())
    assert not is_recalled(compiled(net()))


def test_a_damaged_entry_is_made_again(cache: Path) -> None:
    first = compiled(net())
    for entry in cache.iterdir():
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data)
    again = compiled(net())
    assert not is_recalled(again)
    assert_same(again, first)
    assert is_recalled(compiled(net()))


def test_the_summary_survives_its_text() -> None:
    summary = compiled(net()).summary
    assert summary.raw_weight_bytes == 4 * (32 * 8 * 9 + 4 * 32 + 32 * 32 * 9 + 32 * 20)
    assert type(summary).from_json(summary.to_json()) == summary


STEP = """
graph step(x: float32[N, 16], p: float32[16, 8]) -> ("next/p", loss) {
  weight rate: float32[]
  y = mat_mul(x, p)
  z = relu(y)
  loss = reduce_mean(z) {axes=(0, 1)}
  decay = mul(p, rate)
  "next/p" = sub(p, decay)
}
"""


def step(rate: float) -> driver.Compiled:
    graph = parse_graph(STEP, {"rate": np.array(rate, np.float32)})
    options = driver.Options("training", verify=False, in_place=True)
    return driver.compile_graphs("net", {"train_step": graph}, HOST, options)


def test_a_training_step_is_recalled_with_its_constants_and_its_state() -> None:
    fresh, other, found = step(0.5), step(0.25), step(0.5)
    assert [is_recalled(c) for c in (fresh, other, found)] == [False, False, True]
    assert_same(fresh, found)
    x, p = np.ones((2, 16), np.float32), np.ones((16, 8), np.float32)
    context = found.artifact.model(1).context()
    context.set("p", p)
    assert float(np.asarray(context.entries["train_step"](x)).reshape(())) == 16
    np.testing.assert_array_equal(context.get("p"), p / 2)
