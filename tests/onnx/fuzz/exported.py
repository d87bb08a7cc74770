"""Random ONNX models, imported and exported again: the new file by ONNX' reference evaluator and ONNX Runtime.

    python -m tests.onnx.fuzz.exported --graphs 1000 --seed 0

A model is written at an opset of its own, as `convc export` does. What ONNX Runtime makes of the new file must be what
the reference made of the old one; where ONNX Runtime refuses both files, or isn't installed, the reference evaluator
runs the new one too. What ONNX has no form for at that opset is left out, and counted by reason.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from convc.errors import UnsupportedError
from convc.onnx.exporter import export_graph
from convc.onnx.importer import import_model
from convc.passes.portable import EXPORT
from tests.onnx.fuzz.differential import (
    Tally,
    agrees,
    difference,
    is_failure,
    run,
    run_onnxruntime,
)
from tests.onnx.fuzz.grower import Case, reference

try:
    import onnxruntime
except ModuleNotFoundError:
    onnxruntime = None

OPSETS = (17, 18, 21, 23)
REFUSED: Counter[str] = Counter()
"""What had no form in ONNX, by the operator."""


def exported(case: Case) -> Case:
    """The model as `convc export` writes it, on the same inputs. UnsupportedError where it can't."""
    opset = OPSETS[int(abs(hash_of(case))) % len(OPSETS)]
    return Case(export_graph(EXPORT.run(import_model(case.model)), opset), case.inputs, case.values)


def hash_of(case: Case) -> int:
    """A number that only the model decides."""
    return sum(len(n.op_type) for n in case.model.graph.node) + len(case.model.graph.initializer)


def problem_of(case: Case) -> str:
    """What is wrong with a model's export; empty if nothing."""
    try:
        new = exported(case)
    except UnsupportedError as error:
        REFUSED[str(error).partition(" at opset ")[2]] += 1
        return ""
    except Exception as error:  # a crash is what we look for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"
    names = [o.name for o in new.model.graph.output]
    found = run_onnxruntime(new)
    if found is None:
        refusal = refusal_of(new) if run_onnxruntime(case) is not None else ""
        if refusal and "NOT_IMPLEMENTED" not in refusal:  # doubles at an older opset
            return f"refused: {refusal}"
        try:
            found = dict(zip(names, reference(new.model, case.inputs), strict=True))
        except Exception:  # whatever the reference evaluator raises for what it can't do
            return ""
    differing = {n: d for n in names if (d := difference(found[n], np.asarray(case.values[n])))}
    if not differing:
        return ""
    first = run_onnxruntime(case)
    if first is not None and all(agrees(found[n], first[n]) for n in differing):
        return f"reference: {next(iter(differing.items()))}"
    return f"wrong: {next(iter(differing.items()))}"


def refusal_of(case: Case) -> str:
    """The words in which ONNX Runtime refuses a model that we wrote."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        data = case.model.SerializeToString()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.run(None, dict(case.inputs))
    except Exception as error:  # its own classes, none of which it documents
        return str(error).splitlines()[0]
    return ""


def main() -> int:
    parser = argparse.ArgumentParser("tests.onnx.fuzz.exported", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    given = parser.parse_args()
    until = None if given.seconds is None else time.monotonic() + given.seconds
    seeds = range(given.seed, given.seed + given.graphs)
    tally = run(seeds, Tally(), until, problem_of)
    print(
        f"{tally.graphs} graphs, {sum(REFUSED.values())} without a form: {len(tally.failures)} failed"
    )
    for reason, count in REFUSED.most_common(15):
        print(f"  {count:4d}  {reason}")
    return 1 if any(is_failure(p) for p in tally.failures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
