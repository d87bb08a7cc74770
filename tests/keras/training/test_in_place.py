"""Training steps whose state lives in the model's context: the same numbers as with state going in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from convc_runtime import InputError

from convc.driver import Options, compile_graphs, host_target
from convc.errors import IRError
from convc.graph.interp import run_graph
from convc.graph.state import next_values
from convc.keras.training.rules import SGD, Adam, Rule
from convc.loops.ir import Role
from convc.program.interp import run_program
from convc.program.ir import RegionKind
from convc.program.parser import parse_program
from convc.program.printer import print_program
from convc.program.verify import verify_program
from convc.types import DType
from tests.codegen.native import assert_same_bits
from tests.keras.training.test_step import PARAMETERS, batch, classifier, start, step_of

VERIFIED = Options("training", verify=True, in_place=True)


def compiled_step(rule: Rule, dtype: DType = DType.float32) -> Any:
    graph = classifier(dtype)
    step = step_of(graph, rule)
    compiled = compile_graphs("classifier", {"step": step}, host_target(), VERIFIED)
    return step, start(graph, step, rule), compiled


def inputs_of(dtype: DType, k: int) -> dict[str, Any]:
    extra = {"learning_rate": np.array(0.02, dtype.numpy), "seed": np.array([1, k], np.uint32)}
    return {**batch(dtype), **extra}


@pytest.mark.parametrize("dtype", [DType.float32, DType.float64], ids=lambda d: d.value)
@pytest.mark.parametrize("rule", [SGD(momentum=0.9), Adam()], ids=["momentum", "adam"])
def test_the_context_holds_what_the_step_would_return(rule: Rule, dtype: DType) -> None:
    step, state, compiled = compiled_step(rule, dtype)
    contexts = [compiled.artifact.model(threads).context() for threads in (1, 2, 3, 7)]
    names = set(next_values(step))
    assert {s.name for s in contexts[0].states} == names
    for context in contexts:
        for name in names:
            context.set(name, state[name])
    exact, tolerance = dict(state), 1e-9 if dtype is DType.float64 else 1e-3
    for k in range(4):
        given = inputs_of(dtype, k)
        losses = [c.entries["step"](given) for c in contexts]
        oracle: Mapping[str, Any] = run_graph(step, {**exact, **given})
        np.testing.assert_allclose(losses[0], oracle["loss"], rtol=tolerance)
        exact = {n.removeprefix("next/"): a for n, a in oracle.items() if n.startswith("next/")}
    for name in names:
        for context in contexts[1:]:
            assert_same_bits(contexts[0].get(name), context.get(name))
    for name in PARAMETERS:
        np.testing.assert_allclose(
            contexts[0].get(name), exact[name], rtol=tolerance, atol=tolerance
        )


def test_parameters_are_updated_where_they_are() -> None:
    _, _, compiled = compiled_step(Adam())
    (entry,) = compiled.program.entries
    states = {r.name for r in compiled.program.states}
    assert all(p.name not in states for p in (*entry.inputs, *entry.outputs))
    written: list[str] = []
    for step in entry.steps:
        params = compiled.program.kernels[step.kernel].params
        pairs = [(b.role, a.region) for b, a in zip(params, step.args, strict=True)]
        results = [region for role, region in pairs if role is not Role.in_]
        assert all((Role.in_, p) in pairs for p in PARAMETERS if p in results)
        written += results
    assert all(written.count(p) == 1 for p in PARAMETERS)


def test_the_program_is_text_and_interpreted_alike() -> None:
    step, state, compiled = compiled_step(SGD(momentum=0.9))
    program = compiled.program
    text = print_program(program)
    assert "holds float32[4, 2, 3, 3] @(d2, d3, d1, d0)" in text
    assert parse_program(text, program.kernels, program.weights) == program
    given = {**state, **inputs_of(DType.float32, 0)}
    found: Mapping[str, Any] = run_program(program, given, {"N": 9}, "step")
    oracle: Mapping[str, Any] = run_graph(step, given)
    for name in next_values(step):
        np.testing.assert_allclose(found[name], oracle[f"next/{name}"], rtol=1e-3, atol=1e-5)


def test_a_parameter_that_is_overwritten_too_early_is_refused() -> None:
    _, _, compiled = compiled_step(SGD())
    (entry,) = compiled.program.entries
    regions = [[a.region for a in s.args] for s in entry.steps]
    update = next(i for i, r in enumerate(regions) if r[-1] == "dense/kernel")
    reader = max(i for i, r in enumerate(regions[:update]) if "dense/kernel" in r)
    steps = (*entry.steps, entry.steps[reader])
    program = replace(compiled.program, entries=(replace(entry, steps=steps),))
    with pytest.raises(IRError, match="state 'dense/kernel' is read after it was written"):
        verify_program(program)


def test_state_that_keeps_some_old_values_is_refused() -> None:
    _, _, compiled = compiled_step(SGD())
    regions = tuple(
        replace(r, size=r.size * 2) if r.name == "dense/kernel" else r
        for r in compiled.program.regions
    )
    with pytest.raises(IRError, match="the state's tensor has"):
        verify_program(replace(compiled.program, regions=regions))


def test_contexts_are_apart_and_checked() -> None:
    _, _, compiled = compiled_step(SGD())
    model = compiled.artifact.model(1)
    first, second = model.context(), model.context()
    first.set("dense/bias", [1, 2, 3])
    np.testing.assert_array_equal(first.view("dense/bias"), [1, 2, 3])
    assert not second.get("dense/bias").any()
    with pytest.raises(InputError, match="no state 'dense/bais': expected one of"):
        first.get("dense/bais")
    with pytest.raises(InputError, match=r"state dense/bias: expected shape \(3,\), got \(2,\)"):
        first.set("dense/bias", [1, 2])
    with pytest.raises(InputError, match="state dense/bias: expected float32, got complex128"):
        first.set("dense/bias", np.zeros(3, complex))
    with pytest.raises(InputError, match="has state: call an entry of a context"):
        model.entries["step"](inputs_of(DType.float32, 0))


def test_files_keep_what_the_state_is(tmp_path: Any) -> None:
    import convc_runtime

    _, state, compiled = compiled_step(SGD())
    (path,) = compiled.artifact.save(tmp_path / "step.cvc")
    contexts = [m.context() for m in (compiled.artifact.model(1), convc_runtime.load(path, 1))]
    assert contexts[0].states == contexts[1].states
    for context in contexts:
        for info in context.states:
            context.set(info.name, state[info.name])
    losses = [c.entries["step"](inputs_of(DType.float32, 0)) for c in contexts]
    assert losses[0] == losses[1]
    assert RegionKind.state in {r.kind for r in compiled.program.regions}
