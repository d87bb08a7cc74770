"""`compile --emit cuda` writes a whole program and its weights, which compute what the graph means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.cli import building
from convc.graph.interp import run_graph
from convc.types import evaluate
from tests.cli.test_main import outcome
from tests.codegen.cuda_host import build_host_program, compile_device, run

SCRIPT = """
import keras
from tensorflow.keras import layers

small = keras.Sequential([
    keras.Input((8, 8, 3)),
    layers.Conv2D(16, 3, padding="same", activation="relu", name="edges"),
    layers.MaxPooling2D(name="pool"),
    layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
    layers.AveragePooling2D(3, 2, padding="same", name="average"),
    layers.Flatten(),
    layers.Dense(5, activation="softmax", name="scores"),
], name="small")
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small.py in a folder of its own."""
    path = tmp_path_factory.mktemp("cuda") / "small.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def built(script: Path) -> building.Built:
    """The network for a GPU, its files emitted beside the script."""
    found = building.build_cuda(building.Request(str(script), "cuda-sm90"))
    files = building.emit(found, "cuda", script.with_suffix(".cu"))
    assert [f.name for f in files] == ["small.cu", "small.weights"]
    return found


def test_the_emitted_files_compute_what_the_graph_means(
    built: building.Built, script: Path
) -> None:
    folder, entry = script.parent, built.program.entries[0]
    program = build_host_program(script.with_suffix(".cu").read_text(), entry, folder)
    port = entry.outputs[0]
    for n in (1, 3):
        x = np.random.default_rng(n).standard_normal((n, 8, 8, 3)).astype(np.float32)
        (folder / "x").write_bytes(x.tobytes())
        shape = tuple(evaluate(e, {"N": n}) for e in port.type.shape)
        (folder / "y").write_bytes(b"\xff" * 4 * int(np.prod(shape)))
        run([str(program), str(n), *(str(folder / f) for f in ("small.weights", "x", "y")), str(n)])
        got: Any = np.frombuffer((folder / "y").read_bytes(), np.float32).reshape(shape)
        wanted: Any = run_graph(built.graphs[entry.name], {entry.inputs[0].name: x})[port.name]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_emitted_source_compiles_without_warnings(
    built: building.Built, script: Path, tmp_path: Path, architecture: str
) -> None:
    compile_device(script.with_suffix(".cu").read_text(), architecture, tmp_path)


def test_the_facts_are_those_of_the_gpus_program(
    capsys: pytest.CaptureFixture[str], built: building.Built, script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.cu"
    code, out, err = outcome(
        capsys, "compile", script, "--target", "cuda-sm90", "-o", output, "--json"
    )
    assert (code, err) == (0, [])
    assert "for sm_90" in output.read_text()
    facts = json.loads(out)
    assert facts["target"] == "cuda-sm90"
    assert facts["arena_bytes"] == str(built.program.arena)
    assert "machine code" not in facts["phases"]
    assert [Path(f["path"]).name for f in facts["files"]] == ["a.cu", "a.weights"]
    algorithms = {row["algorithm"] for row in facts["entries"]["predict"]}
    assert algorithms <= {"tiled product", "thread per output", "one thread"}


def test_a_gpu_is_refused_for_everything_but_source(
    capsys: pytest.CaptureFixture[str], script: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.cvc"
    code, _, err = outcome(capsys, "compile", script, "--target", "cuda-sm90", "-o", output)
    assert (code, len(err)) == (6, 1)
    assert "only compile --emit cuda makes code for it" in err[0]
    assert not output.exists()
