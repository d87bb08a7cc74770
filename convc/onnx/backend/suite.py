"""ONNX' own backend tests, counted: `python -m convc.onnx.backend.suite [--only TEXT] [--write FILE]`.

Every case runs through `onnx.backend.test`'s runner and its comparison, on a backend that refuses outputs that were
folded from the inputs' values at compile time. Cases run in processes of their own, so that a crash costs one case.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import re
import sys
import unittest
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx
import onnx.backend.test
import onnx.backend.test.loader
from onnx import defs

from convc import __version__
from convc.onnx.backend import CompiledRep, ConvcBackend
from convc.onnx.importers import RULES

GROUPS = {
    "OnnxBackendNodeModelTest": "node",
    "OnnxBackendSimpleModelTest": "simple",
    "OnnxBackendPyTorchConvertedModelTest": "pytorch-converted",
    "OnnxBackendPyTorchOperatorModelTest": "pytorch-operator",
    "OnnxBackendRealModelTest": "light",
}
CHUNK = 40
SECONDS_PER_CASE = 60


class StrictBackend(ConvcBackend):
    """One thread per case, and nothing that was answered at compile time."""

    threads = 1
    strict = True


HEAD = """# ONNX support

What `python -m convc.onnx.backend.suite --write docs/onnx-support.md` found: ONNX {onnx}'s own backend tests
(opset {opset}), each compiled to native code by convc {convc} and fed at run time.

Inputs that decide shapes (the `shape` of Reshape, the `axes` of a reduction, how many elements NonZero, Compress,
Unique or NonMaxSuppression find) are read when the model meets them, and it compiles once per value; all other inputs
are read by the compiled code alone. A case whose
output follows from the values of such inputs alone counts as failed, as it was answered at compile time. "By types
alone" are cases whose output no input's value can change (Shape, Size, a constant): they copy a constant.

4-bit and 2-bit integers and floats of 8 and 4 bits have no dtype of their own in convc: an element is carried in a byte
(int8 or uint8; the bits of a float), and what converts, quantizes and moves them is native code like the rest.

| group | passed | of | of the passed, by types alone |
|---|---|---|---|"""


TABLE = """
## Operators

Node tests; those of function bodies (`_expanded`) stand with their operator.

| operator | rule | definitions since opset | passed | of | why not |
|---|---|---|---|---|---|"""


NOTES = """
## Notes

- Rows that data decide: `--shape NAME=rows` gives the first output of NonMaxSuppression, NonZero or Compress, called
  NAME, a number of rows that holds for all data, as a saved model needs it. Rows beyond those found are -1 (of
  Compress: zeros); a run whose data give more fails and says so. Without it, a number is read from given data, as the
  tests do.
- Random operators (RandomUniform, RandomNormal and their Like forms, Bernoulli, Dropout in training) draw from Philox
  by `seed`, or by their output's name, and the element's place: the same numbers in every run. ONNX' tests want those
  of numpy's generator.
- `dft_inverse` wants a rounding error: numpy's float32 transform leaves 1.9e-7 in elements that are 0, of which the
  test allows 1e-7. Ours are 0 to 4e-15, as the sums are of float64.
- Strings have no element type in convc: they reach a model as integers, by a vocabulary. Labels and categories of
  ai.onnx.ml have to be integers, and classifiers go without ZipMap (`zipmap=False` of skl2onnx). SVMClassifier gives
  scores, no probabilities (`prob_a`, `prob_b`).
- ImageDecoder needs decoders of image files, which a compiled model has none of: arrays are its inputs.
- Sequences have lengths, and optional values are there or not, as the model or the shapes of its inputs say. A Loop
  whose sequence grows by what the run decides, and optional results of an If, are left out.
- Of ai.onnx.ml there are, beyond those above, FeatureVectorizer, Imputer, LinearClassifier, LinearRegressor,
  Normalizer, OneHotEncoder, SVMClassifier, SVMRegressor, Scaler, TreeEnsembleClassifier and TreeEnsembleRegressor,
  held against ONNX' reference in our own tests.
- "Folded at compile time": the results follow from inputs that decide shapes. They are right, and don't count.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one case; `why` is empty if it passed, `constant` if its output follows from types alone."""

    group: str
    name: str
    why: str
    constant: bool = False


def suite() -> Any:
    """ONNX' test classes on our backend, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return onnx.backend.test.BackendTest(StrictBackend, __name__).test_cases


def cases_of(classes: Any, only: str) -> list[tuple[str, str]]:
    """(class, method) of every case on the CPU."""
    return [
        (kind, method)
        for kind in GROUPS
        if kind in classes
        for method in sorted(unittest.TestLoader().getTestCaseNames(classes[kind]))
        if method.endswith("_cpu") and re.search(only, method)
    ]


def run_case(classes: Any, kind: str, method: str) -> str:
    """Why a case failed, in one line; empty if it passed."""
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classes[kind](method).run(result)
    if result.skipped:
        return f"skipped: {result.skipped[0][1]}"
    problems = [text for _, text in (*result.errors, *result.failures)]
    return "" if not problems else last_error(problems[0])


def last_error(text: str) -> str:
    """The exception of a traceback, with what numpy says of the difference."""
    lines = [line for line in text.splitlines() if line.strip()]
    start = max(
        (k for k, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Test)\b", line)),
        default=-1,
    )
    return " ".join(" ".join(lines[start:]).split())[:400]


def work(classes: Any, cases: Sequence[tuple[str, str]], pipe: Connection) -> None:
    """Runs cases in this process and sends what became of each."""
    for kind, method in cases:
        CompiledRep.constant = False
        why = run_case(classes, kind, method)
        pipe.send((why, CompiledRep.constant and not why))
    pipe.close()


def run_all(classes: Any, cases: list[tuple[str, str]], jobs: int) -> list[Outcome]:
    """All outcomes, from `jobs` processes at a time with a chunk of cases each."""
    context = multiprocessing.get_context("fork")
    waiting = [cases[k : k + CHUNK] for k in range(0, len(cases), CHUNK)]
    running: list[tuple[Any, Connection, list[tuple[str, str]]]] = []
    outcomes: list[Outcome] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            chunk = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(classes, chunk, theirs), daemon=True)
            process.start()
            theirs.close()
            running.append((process, ours, list(chunk)))
        ready = multiprocessing.connection.wait([p for _, p, _ in running], SECONDS_PER_CASE)
        for entry in [e for e in running if e[1] in ready or not ready]:
            process, pipe, left = entry
            try:
                why, constant = pipe.recv() if pipe in ready else ("ran for too long", False)
            except EOFError:
                why, constant = ("the process crashed" if left else ""), False
            if left:
                kind, method = left.pop(0)
                outcomes.append(Outcome(GROUPS[kind], method.removesuffix("_cpu"), why, constant))
            if why in ("ran for too long", "the process crashed") or not left:
                process.terminate()
                process.join()
                pipe.close()
                running.remove(entry)
                if left:
                    waiting.append(left)
    return sorted(outcomes, key=lambda o: (list(GROUPS.values()).index(o.group), o.name))


# ---------------------------------------------------------------- the report


def operators(classes: Any) -> dict[str, str]:
    """The operator that each node test is about."""
    found = {}
    for case in onnx.backend.test.loader.load_model_tests(kind="node"):
        nodes = case.model.graph.node if case.model is not None else []
        name = case.name.split("_expanded")[0]
        if nodes and name == case.name:
            found[case.name] = f"{nodes[0].domain}:{nodes[0].op_type}".removeprefix(":")
    return found


def since(operator: str) -> str:
    """The opsets in which an operator's definition changed, from the first that we take."""
    domain, _, name = operator.rpartition(":")
    versions = [
        s.since_version
        for s in defs.get_all_schemas_with_history()
        if (s.name, s.domain) == (name, domain)
    ]
    if domain == "":
        versions = sorted({max(7, v) for v in versions})
    return ", ".join(map(str, sorted(versions)))


def how(operator: str) -> str:
    """Whether an operator has a rule or goes through its function body."""
    domain, _, name = operator.rpartition(":")
    if name in RULES.get(domain, {}):
        return "yes"
    try:
        schema: Any = defs.get_schema(name, domain)
    except defs.SchemaError:
        return "no"
    has_body = domain in RULES and (schema.has_function or schema.has_context_dependent_function)
    return "by its function body" if has_body else "no"


def counts(outcomes: Sequence[Outcome]) -> list[str]:
    """N of M per group."""
    lines = []
    for group in dict.fromkeys(o.group for o in outcomes):
        mine = [o for o in outcomes if o.group == group]
        constant = sum(o.constant for o in mine)
        note = f" ({constant} of these by types alone)" if constant else ""
        lines.append(f"{group}: {sum(not o.why for o in mine)} of {len(mine)}{note}")
    return lines


def short(why: str) -> str:
    """The reason without the case's own names."""
    why = re.sub(r"^[\w.]*?(\w+): ", "", why)
    why = re.sub(r"^\d+ problems?: ", "", why)
    why = re.sub(r"^(node|input|initializer) \S+?( \(\w+\))?( at opset \d+ on \(.*?\))?: ", "", why)
    return why.split(";")[0][:110].replace("|", "/")


def report(outcomes: Sequence[Outcome], about: dict[str, str]) -> str:
    """The page docs/onnx-support.md."""
    lines = [HEAD.format(onnx=onnx.__version__, opset=defs.onnx_opset_version(), convc=__version__)]
    for group in dict.fromkeys(o.group for o in outcomes):
        mine = [o for o in outcomes if o.group == group]
        constant = sum(o.constant for o in mine)
        lines.append(f"| {group} | {sum(not o.why for o in mine)} | {len(mine)} | {constant} |")
    lines.append(TABLE)
    by_operator: dict[str, list[Outcome]] = defaultdict(list)
    for o in outcomes:
        if o.group == "node":
            by_operator[about.get(o.name.split("_expanded")[0], "others")].append(o)
    for operator in sorted(by_operator):
        mine = by_operator[operator]
        reasons = Counter(short(o.why) for o in mine if o.why)
        text = "; ".join(f"{n}x {why}" for why, n in reasons.most_common(2))
        passed = sum(not o.why for o in mine)
        lines.append(
            f"| {operator} | {how(operator)} | {since(operator)} | {passed} | {len(mine)} | {text} |"
        )
    lines += ["", "## Node tests that fail, by reason", "", *left_out(outcomes)]
    rest = [o for o in outcomes if o.group != "node" and o.why]
    lines += ["", "## Models that fail", ""]
    lines += [f"- {o.group} `{o.name}`: {short(o.why)}" for o in rest]
    return "\n".join(lines) + "\n" + NOTES


def left_out(outcomes: Sequence[Outcome]) -> list[str]:
    """The node tests that fail, a line per reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for o in outcomes:
        if o.group == "node" and o.why:
            by_reason[short(o.why)].append(f"`{o.name.removeprefix('test_')}`")
    ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"- {why} ({len(names)}): {', '.join(names)}" for why, names in ordered]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a regular expression for the cases' names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", type=Path, help="where the page with the table goes")
    parser.add_argument("--failures", action="store_true", help="print a line per failed case")
    chosen = parser.parse_args()
    classes = suite()
    outcomes = run_all(classes, cases_of(classes, chosen.only), chosen.jobs)
    if chosen.failures:
        for o in outcomes:
            if o.why:
                sys.stdout.write(f"{o.group} {o.name}: {o.why}\n")
    sys.stdout.write("\n".join(counts(outcomes)) + "\n")
    if chosen.write:
        chosen.write.write_text(report(outcomes, operators(classes)))


if __name__ == "__main__":
    main()
