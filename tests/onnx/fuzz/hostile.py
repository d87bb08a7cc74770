"""Damaged models against the importer: an error of ours on one line, soon and in little memory, or a graph.

    python -m tests.onnx.fuzz.hostile --files 2000 --seed 0

Files are seeds (random valid models, and some with subgraphs, functions and external data) with bytes or fields
changed. The process may take 1 GiB more than it has after its imports, and ten seconds for a file.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import onnx
from onnx import TensorProto, helper

from convc.errors import ConvcError, IRError
from convc.onnx.importer import import_model
from tests.onnx.fuzz.differential import case_of
from tests.onnx.fuzz.mutations import mutated_bytes, mutated_model
from tests.onnx.models import model_of, node

SECONDS = 10
MORE_MEMORY = 1 << 30


class Late(Exception):  # noqa: N818
    """A file took too long."""


# ---------------------------------------------------------------- seeds


def branching() -> onnx.ModelProto:
    """If, Loop and Scan around small bodies."""
    value = helper.make_empty_tensor_value_info
    plus = helper.make_graph([helper.make_node("Add", ["x", "x"], ["t"])], "then", [], [value("t")])
    less = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [value("e")])
    turn = helper.make_graph(
        [helper.make_node("Mul", ["a", "x"], ["b"]), helper.make_node("Identity", ["k"], ["l"])],
        "turn", [value("i"), value("k"), value("a")], [value("l"), value("b")],
    )  # fmt: skip
    scan = helper.make_graph(
        [helper.make_node("Add", ["s", "r"], ["u"]), helper.make_node("Identity", ["u"], ["p"])],
        "scan", [value("s"), value("r")], [value("u"), value("p")],
    )  # fmt: skip
    nodes = [
        node("If", "c", "y", then_branch=plus, else_branch=less),
        node("Loop", "m c y", "z", body=turn),
        node("Scan", "o x", "q r", body=scan, num_scan_inputs=1),
    ]
    weights = {"c": np.array(True), "m": np.array(3), "o": np.zeros(4, np.float32)}
    return model_of(nodes, {"x": (np.float32, [3, 4])}, ["z", "q", "r"], weights)


def calling() -> onnx.ModelProto:
    """A function of the model's own, with an attribute."""
    model = model_of([node("Relu", "x")], {"x": (np.float32, ["n", 4])})
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    body = helper.make_node("LeakyRelu", ["a"], ["b"])
    body.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    model.functions.append(
        helper.make_function("own", "Slope", ["a"], ["b"], [body], opsets, attributes=["slope"])
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    call = helper.make_node("Slope", ["x"], ["y"], domain="own", slope=0.25)
    model.graph.node[0].CopyFrom(call)
    return model


def external() -> onnx.ModelProto:
    """A weight that lies in a file of the folder (see `Folder`)."""
    model = model_of([node("MatMul", "x w")], {"x": (np.float32, ["n", 6])}, ["y"])
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[6, 4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "w.bin", "offset": "0", "length": "96"}.items():
        tensor.external_data.add(key=key, value=text)
    return model


def shapes() -> onnx.ModelProto:
    """What exporters write to compute shapes."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Unsqueeze", "n i", "u"),
        node("Concat", "u m", "t", axis=0), node("Reshape", "x t", "f"), node("Range", "z n d", "r"),
        node("ConstantOfShape", "t", "e"), node("Expand", "f s2", "y"), node("Tile", "r k", "q"),
    ]  # fmt: skip
    weights = {"i": np.array([0]), "m": np.array([-1]), "z": np.array(0), "d": np.array(1),
               "s2": np.array([2, 2, 12]), "k": np.array([3])}  # fmt: skip
    weights["i"] = np.array(0)
    nodes[2] = node("Unsqueeze", "n a", "u")
    weights["a"] = np.array([0])
    return model_of(nodes, {"x": (np.float32, [2, 3, 4])}, ["y", "q"], weights)


def seeds(count: int = 40) -> list[onnx.ModelProto]:
    """Valid models of many operators."""
    return [branching(), calling(), external(), shapes(), *(case_of(k).model for k in range(count))]


# ---------------------------------------------------------------- one file


def problem_of(path: Path) -> str:
    """What the importer does wrong with a file; empty if nothing."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        import_model(path)
    except ConvcError as error:
        return complaint(path, error)
    except Late:
        return f"takes more than {SECONDS} seconds"
    except Exception as error:  # anything else is what we look for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {error}"[:300]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return ""


def complaint(path: Path, error: ConvcError) -> str:
    """What is wrong with an error; empty if nothing."""
    message = str(error)
    if isinstance(error, IRError):
        return f"IRError: {message}"
    if not message.startswith(str(path)):
        return f"doesn't name the file: {message}"
    if "\n" in message or "\x00" in message:
        return f"is not one line of text: {message!r}"
    return f"an error of {len(message)} characters" if len(message) > 20_000 else ""


def limit_memory() -> None:
    """From here on the process may take MORE_MEMORY."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@dataclass
class Tally:
    """How many files there were, of which the importer took `taken`; what it did wrong, with its bytes."""

    files: int = 0
    taken: int = 0
    slowest: float = 0.0
    failures: dict[str, bytes] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)


def run(count: int, seed: int, folder: Path, until: float | None = None) -> Tally:
    """So many damaged files, in a folder that has the external data."""
    (folder / "w.bin").write_bytes(bytes(96))
    path = folder / "m.onnx"
    rng = random.Random(seed)
    models = seeds()
    tally = Tally()
    for _ in range(count):
        if until is not None and time.monotonic() > until:
            break
        model = rng.choice(models)
        if rng.random() < 0.3:
            data = mutated_bytes(model.SerializeToString(), rng)
        else:
            data = mutated_model(model, rng).SerializeToString()
        path.write_bytes(data)
        start = time.perf_counter()
        problem = problem_of(path)
        tally.slowest = max(tally.slowest, time.perf_counter() - start)
        tally.files += 1
        if problem and problem not in tally.failures:
            tally.failures[problem] = data
            print(problem, flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser("tests.onnx.fuzz.hostile", description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--keep", type=Path, help="write the files that fail into this folder")
    given = parser.parse_args()
    limit_memory()
    until = None if given.seconds is None else time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory(prefix="convc-hostile-") as folder:
        tally = run(given.files, given.seed, Path(folder), until)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        for k, data in enumerate(tally.failures.values()):
            (given.keep / f"{k}.onnx").write_bytes(data)
    print(f"{tally.files} files, {len(tally.failures)} problems, slowest {tally.slowest:.2f} s")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
