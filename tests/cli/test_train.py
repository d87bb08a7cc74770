"""`convc compile --train`: one artifact that trains, what it says about its state, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
import pytest

from convc import keras
from tests.cli.test_main import outcome

SCRIPT = """
from convc import keras
model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, activation="softmax", name="d")], name="m")
"""
OPTIONS = (
    "--optimizer",
    "adam",
    "--loss",
    "sparse_categorical_crossentropy",
    "--metrics",
    "accuracy",
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(SCRIPT)
    return tmp_path / "m.py"


def test_one_artifact_predicts_and_trains(
    script: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "m.cvc"
    command = ("compile", script, "--train", *OPTIONS, "--verify", "-o", path)
    code, out, err = outcome(capsys, *command, "--json")
    assert (code, err) == (0, [])
    facts = json.loads(out)
    assert list(facts["entries"]) == ["predict", "train_step", "test_step", "metrics"]
    assert facts["state_bytes"] == {
        "parameter": 60, "statistic": 0, "optimizer": 120, "metric": 16, "control": 12
    }  # fmt: skip
    kernel = next(s for s in facts["states"] if s["name"] == "d/kernel")
    assert (kernel["kind"], kernel["shape"], kernel["bytes"]) == ("parameter", [4, 3], 48)
    context = convc_runtime.load(path).context()
    x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 1])
    context.set("learning_rate", 0.1)
    losses = [float(context.entries["train_step"](x, y)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert (context.entries["predict"](x).argmax(1) == y).all()


def test_the_tables_show_states_and_memory(
    script: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ("compile", script, "--train", *OPTIONS, "--batch", "8", "-o", tmp_path / "m.o")
    code, out, err = outcome(capsys, *command)
    assert (code, err) == (0, [])
    assert "momentum, velocity" in out
    assert "208 B in each context: parameter 60 B, optimizer 120 B, metric 16 B" in out
    header = (tmp_path / "m.h").read_text()
    assert "input   x float32[8, 4]" in header
    assert "parameter  d/kernel float32[4, 3]" in header
    assert '#include "convc_state.h"' in header


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (("--train",), 4, "m: how is it trained? Let the script call model.compile"),
        (("--train", "--optimizer", "adam"), 4, "m: --loss is missing"),
        (("--train", "--optimizer", "adamm", "--loss", "mse"), 4, "did you mean 'adam'?"),
        (("--train", *OPTIONS, "--target", "cuda-sm80"), 6, "--train compiles for CPUs"),
        (("--train", *OPTIONS, "--emit", "cuda"), 6, "--train compiles for CPUs"),
        (("--train", *OPTIONS, "--exact"), 2, "are for predictions alone"),
        (("--loss", "mse"), 2, "--loss is for training: say --train too"),
    ],
)
def test_what_is_refused(
    options: tuple[str, ...],
    exit_code: int,
    message: str,
    script: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = outcome(capsys, "compile", script, *options)
    assert code == exit_code
    assert message in " ".join(err)
    assert [p.name for p in tmp_path.iterdir()] == ["m.py"]


def test_a_keras_file_goes_on_where_it_stands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(5)
    model: Any = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")], name="m")
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(6, n)).astype(np.float32) for n in (4, 3))
    for _ in range(3):
        model.train_on_batch(x, y)
    path, target = tmp_path / "m.keras", "x86-64-v2"
    model.save(path)
    for name in ("host", target):
        command = ("compile", path, "--train", "--target", name, "-o", tmp_path / f"{name}.cvc")
        assert outcome(capsys, *command)[0] == 0
    here, there = (convc_runtime.load(tmp_path / f"{n}.cvc").context() for n in ("host", target))
    assert here.get("iterations") == 3
    expected = model.train_on_batch(x, y)
    here.entries["train_step"](x, y)
    np.testing.assert_allclose(here.entries["metrics"](), expected, rtol=1e-6)
    there.set_state_bytes(here.state_bytes())
    assert there.state_bytes() == here.state_bytes()
    np.testing.assert_allclose(there.entries["predict"](x), model.predict_on_batch(x), rtol=1e-5)
