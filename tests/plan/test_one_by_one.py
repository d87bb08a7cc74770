"""Loops over images: which steps they take, that results and memory stay right, and native code agrees."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from convc_runtime.memory import aligned
from convc_runtime.model import Call

from convc import driver
from convc.errors import IRError
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.loops.parser import parse_kernel
from convc.plan.one_by_one import runs, takes_images_apart
from convc.program.interp import run_program
from convc.program.ir import Program
from convc.program.parser import parse_program
from convc.program.printer import print_program
from convc.program.turns import loops_of, own_regions
from convc.program.verify import verify_program
from convc.target import TARGETS, Target
from convc.types import evaluate

SMALL_CACHE = replace(TARGETS["x86-64-avx2"], l2=64)

TEXT = """
graph g(x: float32[N, 3, 8, 8]) -> (y, pooled) {
  weight a: float32[4, 3, 3, 3]
  weight b: float32[4, 4, 1, 1]
  weight d: float32[4, 5]
  first = conv2d(x, a) {padding=((1, 1), (1, 1))}
  one = relu(first)
  second = conv2d(one, a2) {padding=((1, 1), (1, 1))}
  third = add(second, one)
  two = conv2d(third, b) {}
  pooled = max_pool2d(two) {kernel=(2, 2), stride=(2, 2)}
  mean = reduce_mean(two) {axes=(2, 3), keepdims=false}
  y = mat_mul(mean, d)
}
""".replace("  weight b", "  weight a2: float32[4, 4, 3, 3]\n  weight b")


def graph() -> Graph:
    random = np.random.default_rng(3)
    shapes = {"a": (4, 3, 3, 3), "a2": (4, 4, 3, 3), "b": (4, 4, 1, 1), "d": (4, 5)}
    weights = {n: random.normal(size=s).astype("f4") for n, s in shapes.items()}
    return parse_graph(TEXT, weights)


def planned(target: Target, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr("convc.plan.one_by_one._LEAST_GAIN", 64)
    options = driver.Options("exact", verify=True, recall=False)
    return driver.plan_graphs("g", {"predict": graph()}, target, options).program


def test_runs_are_those_of_the_largest_sums() -> None:
    scores = [0.0, 5.0, -1.0, 4.0, -20.0, 3.0, float("-inf"), 0.0, 9.0, -1.0]
    assert list(runs(scores, 4.0)) == [(0, 4), (7, 9)]
    assert list(runs(scores, 3.0)) == [(0, 4), (5, 6), (7, 9)]
    assert list(runs([], 1.0)) == []


def test_results_are_the_same_bits_with_room_for_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = planned(SMALL_CACHE, monkeypatch)
    whole = planned(TARGETS["x86-64-avx2"], monkeypatch)
    (entry,) = apart.entries
    assert loops_of(entry)
    assert own_regions(apart, entry)
    assert not loops_of(whole.entries[0])
    assert evaluate(apart.arena, {"N": 5}) < evaluate(whole.arena, {"N": 5})
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype("f4")
    a, b = (run_program(p, {"x": x}, {"N": 5}) for p in (apart, whole))
    for name in b:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_native_code_runs_the_images_in_turns(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convc.plan.one_by_one._LEAST_GAIN", 64)
    options = driver.Options("exact", recall=False)
    compiled = driver.compile_graphs("g", {"predict": graph()}, SMALL_CACHE, options)
    assert loops_of(compiled.program.entries[0])
    x = np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype("f4")
    wanted = run_program(compiled.program, {"x": x}, {"N": batch})
    for threads in (1, 3):
        found = compiled.artifact.model(threads)({"x": x})
        for array, expected in zip(found, wanted.values(), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_native_code_of_no_images_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convc.plan.one_by_one._LEAST_GAIN", 64)
    options = driver.Options("exact", recall=False)
    compiled = driver.compile_graphs("g", {"predict": graph()}, SMALL_CACHE, options)
    (entry,) = compiled.program.entries
    assert loops_of(entry)
    model = compiled.artifact.model(1)
    native, function = model.entries["predict"]._native, model.entries["predict"]._function
    # Memory for one image, which a call without the runtime's checks need not bring.
    x = np.ones((1, 3, 8, 8), np.float32)
    outputs = [np.full((1, 5), 7, np.float32), np.full((1, 4, 4, 4), 7, np.float32)]
    workspace = aligned(evaluate(compiled.program.workspace(entry), {"N": 1}))
    workspace[...] = 7
    symbols = np.zeros(1, np.int64)
    inputs_table = np.array([x.ctypes.data], np.uintp)
    outputs_table = np.array([y.ctypes.data for y in outputs], np.uintp)
    call = Call(
        size=ctypes.sizeof(Call),
        weights=native.weights_address,
        workspace=workspace.ctypes.data,
        inputs=inputs_table.ctypes.data,
        outputs=outputs_table.ctypes.data,
        symbols=symbols.ctypes.data,
    )
    assert native.invoke(function, ctypes.addressof(call)) == 0
    assert all((memory == 7).all() for memory in (workspace, *outputs))
    symbols[0] = 1
    assert native.invoke(function, ctypes.addressof(call)) == 0
    for found, expected in zip(outputs, model({"x": x}), strict=True):
        np.testing.assert_array_equal(found, expected)


NOISE = """
graph g(x: float32[N, 3, 8, 8]) -> (y) {
  weight seed: uint32[2]
  bits = random_bits(seed) {shape=(N, 3, 8, 8)}
  u = cast(bits) {dtype=float32}
  first = add(u, x)
  y = max_pool2d(first) {kernel=(2, 2), stride=(2, 2)}
}
"""


def test_every_image_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convc.plan.one_by_one._LEAST_GAIN", 64)
    noisy = parse_graph(NOISE, {"seed": np.array([1, 2], np.uint32)})
    options = driver.Options("exact", verify=True, recall=False)
    nets = [
        driver.compile_graphs("g", {"predict": noisy}, target, options)
        for target in (SMALL_CACHE, TARGETS["x86-64-avx2"])
    ]
    assert [bool(loops_of(net.program.entries[0])) for net in nets] == [True, False]
    x = np.zeros((3, 3, 8, 8), np.float32)
    wanted = run_graph(noisy, {"x": x})["y"]
    assert not np.array_equal(wanted[0], wanted[1])
    for net in nets:
        np.testing.assert_array_equal(run_program(net.program, {"x": x}, {"N": 3})["y"], wanted)
        np.testing.assert_array_equal(net.artifact.model(1)({"x": x}), wanted)


def test_a_program_with_loops_is_printed_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    program = planned(SMALL_CACHE, monkeypatch)
    text = print_program(program)
    assert "each N {" in text
    again = parse_program(text, program.kernels, program.weights)
    assert again == program
    assert print_program(again) == text


def test_a_loop_that_leaves_its_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    program = planned(SMALL_CACHE, monkeypatch)
    (entry,) = program.entries
    loop = loops_of(entry)[0]
    # The steps behind it would find one image where they expect all.
    cut = tuple(replace(s, each="") if i == loop.stop - 1 else s for i, s in enumerate(entry.steps))
    with pytest.raises(IRError):
        verify_program(replace(program, entries=(replace(entry, steps=cut),)))


@pytest.mark.parametrize(
    ("body", "apart"),
    [
        ("for n in N { for i in 4 { y[n, i] = x[n, i] } }", True),
        ("for i in 4 { for n in N { y[n, i] = x[n, i] * x[n, 0] } }", True),
        ("for n in N { for i in 4 { y[n, i] = x[0, i] } }", False),
        ("for n in N { for i in 4 { y[n, i] = x[N - 1 - n, i] } }", False),
        ("for n in N { for m in N { y[n, 0] = x[n, 0] } }", False),
        ("alloc s: float32[] register s[] = 0.0 for n in N { s[] = s[] + x[n, 0] y[n, 0] = s[] }",
         False),
        ("for i in 4 { alloc s: float32[] register s[] = 0.0 for n in N { s[] = s[] + x[n, i] "
         "y[n, i] = s[] } }", False),
        ("for n in N { y[n, 0] = float32(N) }", False),
        # Inside the loop every image is the first: what knows its number would take it for 0.
        ("for n in N { for i in 4 { y[n, i] = x[n, i] * float32(n) } }", False),
        ("for n in N { for i in 4 { y[n, i] = float32(n * 4 + i) + x[n, i] } }", False),
        ("for n in N { if n < 1 { y[n, 0] = x[n, 0] } }", False),
        ("for n in N { y[n, n % 4] = x[n, 0] }", False),
        ("for n in N { y[n, 0] = x[n, n % 4] }", False),
        ("for n in N { y[n, 0] = w[n] }", False),
        ("for n in N { let k: int64 = n % 4 y[n, 0] = w[k] }", False),
        ("for n in N { for i in n { y[n, 0] = x[n, 0] } }", False),
        ("for n in N { y[n, 0] = x[n, int64(x[n, 0])] }", True),
    ],
)  # fmt: skip
def test_which_kernels_take_images_apart(body: str, apart: bool) -> None:
    text = f"kernel k(in x: float32[N, 4], in w: float32[4], out y: float32[N, 4]) {{ {body} }}"
    assert takes_images_apart(parse_kernel(text), "N") is apart


def test_a_step_of_large_weights_goes_through_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    program = planned(SMALL_CACHE, monkeypatch)
    monkeypatch.setattr("convc.plan.one_by_one._PER_WEIGHT_BYTE", 1e6)
    options = driver.Options("exact", recall=False)
    heavy = driver.plan_graphs("g", {"predict": graph()}, SMALL_CACHE, options).program
    assert len(loops_of(program.entries[0])) >= 1
    inside = [s for s in heavy.entries[0].steps if s.each]
    assert all(a.region not in heavy.weights for s in inside for a in s.args)
