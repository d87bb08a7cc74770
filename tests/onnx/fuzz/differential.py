"""Random valid ONNX models: native code against ONNX' reference evaluator and ONNX Runtime.

    python -m tests.onnx.fuzz.differential --graphs 2000 --seed 0
    python -m tests.onnx.fuzz.differential --graphs 1000 --symbolic

Each model is compiled once and run at one and at three threads, which must give the same bits. An output that differs
from the reference is a failure unless ONNX Runtime (where it is installed) has what we have: then the reference is
wrong, which is counted. Failing models are cut down to the fewest nodes that still fail. With `--symbolic` the first
dimension of the inputs is a symbol, where a model can be had so.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convc import driver
from convc.errors import ConvcError
from convc.graph.ir import Array
from convc.onnx.importer import import_model
from tests.onnx.fuzz import steps_elements, steps_shapes, steps_windows
from tests.onnx.fuzz.grower import Case, Grower, Unfit, initializers, typed
from tests.onnx.models import model_of

try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

STEPS = (*steps_elements.STEPS, *steps_shapes.STEPS, *steps_windows.STEPS)
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2}
"""Of an output's largest element (or of 1): a dozen roundings, which norms and powers enlarge."""
Arrays = Mapping[str, Array]
Judge = Callable[[Case], str]
"""What is wrong with a model, by its kind and a colon; empty if nothing."""


def case_of(seed: int, most: int = 8) -> Case:
    """The model of a seed."""
    for attempt in range(50):
        grower = Grower(seed * 50 + attempt)
        try:
            return grower.grow(STEPS, grower.between(2, most))
        except Unfit:
            continue
    raise Unfit(f"seed {seed}")


def difference(y: Any, wanted: Array) -> str:
    """How an output differs; empty if it doesn't."""
    y = np.asarray(y)
    if y.shape != wanted.shape or y.dtype != wanted.dtype:
        return f"{y.dtype}{list(y.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind != "f":
        count = int(np.count_nonzero(y != wanted))
        return f"{count} of {y.size} elements differ" if count else ""
    if not wanted.size:
        return ""
    with np.errstate(all="ignore"):
        error = np.abs(y.astype(np.float64) - wanted.astype(np.float64))
    bound = TOLERANCE[wanted.dtype.name] * max(1.0, float(np.abs(wanted).max()))
    worst = float(np.max(error)) if not np.isnan(error).any() else np.nan
    return "" if worst <= bound else f"off by {worst:.2g}, {bound:.2g} allowed"


def run_convc(model: onnx.ModelProto, inputs: Arrays) -> dict[str, Array]:
    """The outputs of native code. AssertionError if the number of threads changes a bit."""
    graph = import_model(model)
    artifact = driver.compile(graph).compiled.artifact
    results = []
    for threads in (1, 3):
        runnable = artifact.model(threads)
        found = runnable(*(inputs[n] for n in graph.inputs))
        results.append(
            [np.array(a) for a in (found if isinstance(found, list | tuple) else [found])]
        )
        runnable.close()
    for name, one, three in zip(graph.outputs, *results, strict=True):
        assert one.tobytes() == three.tobytes(), f"{name}: three threads give other bits than one"
    return dict(zip(graph.outputs, results[0], strict=True))


def run_onnxruntime(case: Case) -> dict[str, Array] | None:
    """The outputs by ONNX Runtime; None where it isn't installed or refuses the model."""
    if onnxruntime is None:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = typed(case.model, case.values).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found = session.run(None, dict(case.inputs))
    except Exception:  # its own classes, none of which it documents
        return None
    return dict(zip([o.name for o in case.model.graph.output], found, strict=True))


# ---------------------------------------------------------------- verdicts


def problem_of(case: Case) -> str:
    """What native code does wrong on a model; empty if nothing."""
    try:
        found = run_convc(case.model, case.inputs)
    except ConvcError as error:
        return f"refused: {error}"
    except Exception as error:  # a crash is what we look for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"
    differing = {n: d for n, w in case.wanted.items() if (d := difference(found[n], w))}
    if not differing:
        return ""
    other = run_onnxruntime(case)
    if other is not None and all(agrees(found[n], other[n]) for n in differing):
        return f"reference: {next(iter(differing.items()))}"
    return f"wrong: {next(iter(differing.items()))}"


def symbolic_problem_of(case: Case) -> str:
    """The same with a symbol for the inputs' first dimension; empty where only a number will do."""
    symbolic = with_symbol(case)
    try:
        import_model(symbolic.model)
    except ConvcError:
        return ""
    problem = problem_of(symbolic)
    return "" if problem.startswith("refused") else problem


def with_symbol(case: Case) -> Case:
    """The model with the symbol N for the first dimension of each input that has it in common with the first one.

    A Squeeze that names no axes has another rank at one image than at two: such a model stays as it is.
    """
    if any(n.op_type == "Squeeze" and not any(n.input[1:]) for n in case.model.graph.node):
        return case
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    weights = initializers(model)
    shapes = [i.type.tensor_type.shape for i in model.graph.input if i.name not in weights]
    batch = next((s.dim[0].dim_value for s in shapes if s.dim), None)
    for shape in shapes:
        if shape.dim and shape.dim[0].dim_value == batch:
            shape.dim[0].dim_param = "N"
    return Case(model, case.inputs, case.values)


def agrees(y: Array, other: Any) -> bool:
    return not difference(y, np.asarray(other))


def is_failure(problem: str) -> bool:
    return bool(problem) and not problem.startswith("reference")


# ---------------------------------------------------------------- shrinking


def shrunk(case: Case, kind: str, judge: Judge = problem_of) -> Case:
    """The smallest run of consecutive producers, fed with the reference's values, that still has such a problem."""
    nodes = list(case.model.graph.node)
    producer = {o: n for n in nodes for o in n.output}
    for depth in range(1, len(nodes)):
        for last in nodes:
            part = cut(case, within(last, producer, depth), last.output)
            if part is not None and judge(part).partition(":")[0] == kind:
                return part
    return case


def within(last: Any, producer: Mapping[str, Any], depth: int) -> list[str]:
    """The outputs of a node and of those that it reads from, through so many levels."""
    names = list(last.output)
    if depth > 1:
        for name in last.input:
            if name in producer:
                names += within(producer[name], producer, depth - 1)
    return names


def cut(case: Case, made: list[str], outputs: Any) -> Case | None:
    """The nodes that make some values, on inputs from the reference; None if that is the whole model."""
    weights = initializers(case.model)
    nodes = [n for n in case.model.graph.node if set(n.output) & set(made)]
    if len(nodes) == len(case.model.graph.node):
        return None
    inside = {o for n in nodes for o in n.output}
    read = {i for n in nodes for i in n.input if i and i not in inside}
    inputs = {n: case.values[n] for n in read if n not in weights}
    kept = {n: weights[n] for n in read if n in weights}
    opset = case.model.opset_import[0].version
    model = model_of(nodes, inputs, [o for o in outputs if o], kept, opset)
    return Case(model, inputs, case.values)


def text_of(case: Case) -> str:
    """A model as one can write it down again."""
    lines = [f"opset {case.model.opset_import[0].version}"]
    lines += [f"  input {n}: {a.dtype}{list(a.shape)}" for n, a in case.inputs.items()]
    for name, array in initializers(case.model).items():
        shown = f" = {array.tolist()}" if array.size <= 8 else ""
        lines.append(f"  weight {name}: {array.dtype}{list(array.shape)}{shown}")
    for node in case.model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        outputs = ", ".join(f"{o}{list(case.values[o].shape)}" for o in node.output)
        lines.append(f"  {outputs} = {node.op_type}({', '.join(node.input)}) {attributes or ''}")
    return "\n".join(lines)


# ---------------------------------------------------------------- the script


@dataclass
class Tally:
    """What a run found; `operators` counts the nodes of models by kind."""

    graphs: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    reference_wrong: dict[int, str] = field(default_factory=dict)


def run(seeds: range, tally: Tally, until: float | None = None, judge: Judge = problem_of) -> Tally:
    """Judges the models of some seeds, or as many as the clock allows."""
    for seed in seeds:
        if until is not None and time.monotonic() > until:
            break
        case = case_of(seed)
        problem = judge(case)
        tally.graphs += 1
        tally.operators.update(n.op_type for n in case.model.graph.node)
        if not problem:
            continue
        (tally.failures if is_failure(problem) else tally.reference_wrong)[seed] = problem
        small = shrunk(case, problem.partition(":")[0], judge)
        print(f"seed {seed}: {problem}\n{text_of(small)}\n  -> {judge(small)}", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser("tests.onnx.fuzz.differential", description=__doc__)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--symbolic", action="store_true", help="with a symbol for the batch")
    given = parser.parse_args()
    until = None if given.seconds is None else time.monotonic() + given.seconds
    judge = symbolic_problem_of if given.symbolic else problem_of
    tally = run(range(given.seed, given.seed + given.graphs), Tally(), until, judge)
    nodes = sum(tally.operators.values())
    print(
        f"{tally.graphs} graphs, {nodes} nodes of {len(tally.operators)} operators: {len(tally.failures)} failed; "
        f"the reference alone was wrong in {len(tally.reference_wrong)}"
    )
    if onnxruntime is None:
        print("ONNX Runtime is not installed: the reference was the only one")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
