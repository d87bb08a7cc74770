"""`convc compile --train`: one artifact that trains, what it says about its state, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
import pytest
from convc_runtime.format import read_contents, write_artifact

from convc import keras
from tests.cli.test_main import outcome

SCRIPT = """
from convc import keras
keras.utils.set_random_seed(7)
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
        (("--train", *OPTIONS, "--dtype", "d=bytes"), 2, "--dtype: expected one of float64"),
        (
            ("--train", *OPTIONS, "--dtype", "d"),
            2,
            "--dtype: expected name=dtype such as image=uint8",
        ),
        (
            ("--train", *OPTIONS, "--dtype", "y=int8"),
            2,
            "no input or target 'y': expected one of x, d",
        ),
        (("--dtype", "d=uint8"), 2, "--dtype is for training: say --train too"),
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


DATA = np.random.default_rng(2).normal(size=(40, 4)).astype(np.float32)
LABELS = DATA[:, :3].argmax(1)


@pytest.fixture
def folder(script: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with m.cvc, which takes labels as bytes, and arrays to train on."""
    path = script.parent
    options = ("--train", *OPTIONS, "--dtype", "d=uint8", "-o", path / "m.cvc")
    assert outcome(capsys, "compile", script, *options)[0] == 0
    np.savez(path / "data.npz", x=DATA, d=LABELS)
    np.save(path / "x.npy", DATA)
    np.save(path / "d.npy", LABELS.astype(np.uint8))
    return path


def trained(capsys: pytest.CaptureFixture[str], folder: Path, *options: str | Path) -> Any:
    command = ("train", folder / "m.cvc", "--batch", "8", *options, "--json")
    code, out, err = outcome(capsys, *command)
    assert (code, err) == (0, [])
    return json.loads(out)


def test_training_goes_on_from_its_state_and_predicts_with_it(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    data, whole, parts = folder / "data.npz", folder / "whole.state", folder / "parts.state"
    both = ("-i", folder / "x.npy", "-i", folder / "d.npy")
    named = ("-i", f"x={both[1]}", "-i", f"d={both[3]}")
    rate = ("--learning-rate", "0.1")
    once = trained(
        capsys, folder, "-i", data, "--state", whole, "--epochs", "3", *rate, "--validation", data
    )
    assert [set(e) for e in once["epochs"]] == [
        {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    ] * 3
    assert (once["rows"], once["steps"], once["iterations"]) == (40, 15, 15)
    assert once["epochs"][-1]["val_accuracy"] > 0.9
    first = trained(capsys, folder, *named, "--state", parts, *rate)
    rest = trained(capsys, folder, *named, "--state", parts, "--epochs", "2")
    assert [e["loss"] for e in (*first["epochs"], *rest["epochs"])] == [
        e["loss"] for e in once["epochs"]
    ]
    assert whole.read_bytes() == parts.read_bytes()
    shuffled = trained(
        capsys, folder, *named, "--state", folder / "other.state", "--seed", "1", *rate
    )
    assert shuffled["epochs"][0]["loss"] != first["epochs"][0]["loss"]
    run = ("run", folder / "m.cvc", "-i", folder / "x.npy", "-o", folder / "y.npy")
    assert outcome(capsys, *run, "--state", whole)[0] == 0
    assert (np.load(folder / "y.npy").argmax(1) == LABELS).mean() > 0.9
    assert outcome(capsys, *run)[0] == 0
    assert (np.load(folder / "y.npy").argmax(1) == LABELS).mean() < 0.9
    code, out, _ = outcome(capsys, "train", folder / "m.cvc", *named, "--state", whole)
    assert code == 0
    assert out.startswith("continues after 15 steps\nepoch 1/1  loss 0.")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("m.py", "-i", "data.npz", "--state", "s"), 2, "m.py: expected a .cvc file of `convc compile MODEL --train`"),
        (("none.cvc", "-i", "data.npz", "--state", "s"), 3, "none.cvc: No such file"),
        (("plain.cvc", "-i", "data.npz", "--state", "s"), 2, "m has no state: it wasn't compiled with --train"),
        (("m.cvc", "-i", "x=x.npy", "--state", "s"), 7, "no array for d: expected x float32[N, 4]; d uint8[N]; got x"),
        (("m.cvc", "-i", "data.npz", "-i", "foo=x.npy", "--state", "s"), 7,
         "--input: no input or target 'foo': expected x float32[N, 4]; d uint8[N]"),
        (("m.cvc", "-i", "data.npz", "--state", "s", "--learning-rate", "nan"), 2, "a finite number from 0, got nan"),
        (("m.cvc", "-i", "data.npz", "--state", "s", "--learning-rate", "-1"), 2, "a finite number from 0, got -1"),
        (("m.cvc", "-i", "short.npz", "--state", "s"), 7, "as many rows of each array: x has 40, d has 2"),
        (("m.cvc", "-i", "wrong.npz", "--state", "s"), 7, "d: expected labels from 0 to 2, got 0 to 3"),
        (("m.cvc", "-i", "empty.npz", "--state", "s"), 7, "--input: expected rows, got empty arrays"),
        (("m.cvc", "-i", "wide.npz", "--state", "s"), 7, "--input: expected x float32[N, 4], got shape (40, 5)"),
        (("m.cvc", "-i", "data.npz", "--state", "data.npz"), 3, "data.npz: not a saved state"),
        (("m.cvc", "-i", "data.npz", "--state", "."), 3, ".: expected a file for the state, got a folder"),
        (("m.cvc", "-i", "data.npz", "--state", "none/s"), 8, "can't write none/s"),
        (("m.cvc", "-i", "data.npz", "--state", "s", "--validation", "none.npz"), 3, "none.npz: no such file"),
        (("m.cvc", "-i", "data.npz", "--state", "s", "--epochs", "0"), 2, "--epochs"),
    ],
)  # fmt: skip
def test_what_train_refuses(
    arguments: tuple[str, ...],
    exit_code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    outcome(capsys, "compile", "m.py", "-o", "plain.cvc")
    np.savez("short.npz", x=DATA, d=LABELS[:2])
    np.savez("wrong.npz", x=DATA, d=np.append(LABELS[:-1], 3))
    np.savez("empty.npz", x=DATA[:0], d=LABELS[:0])
    np.savez("wide.npz", x=np.ones((40, 5), np.float32), d=LABELS)
    code, _, err = outcome(capsys, "train", *arguments)
    assert (code, len(err)) == (exit_code, 1), err
    assert message in err[0]
    assert not Path("s").exists()


def test_a_schedule_decides_the_rate(
    script: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    schedule = "keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)"
    compiled = f'model.compile(keras.optimizers.SGD({schedule}), "sparse_categorical_crossentropy")'
    script.write_text(f"{SCRIPT}{compiled}\n")
    assert outcome(capsys, "compile", script, "--train", "-o", tmp_path / "m.cvc")[0] == 0
    np.savez(tmp_path / "data.npz", x=DATA, d=LABELS)
    command = ("train", tmp_path / "m.cvc", "-i", tmp_path / "data.npz", "--state", tmp_path / "s")
    code, _, err = outcome(capsys, *command, "--learning-rate", "0.1")
    assert (code, len(err)) == (2, 1)
    assert "--learning-rate: the model's schedule ExponentialDecay decides the rate" in err[0]
    assert not (tmp_path / "s").exists()
    assert outcome(capsys, *command)[0] == 0
    older = tmp_path / "older.cvc"
    with (tmp_path / "m.cvc").open("rb") as file:
        contents = read_contents(file, "m.cvc")
        whole = np.frombuffer((tmp_path / "m.cvc").read_bytes(), np.uint8)
    native = whole[contents.code.offset :][: contents.code.size].tobytes()
    weights = whole[contents.weights.offset :][: contents.weights.size]
    extra = {k: v for k, v in contents.description.extra.items() if k != "schedule"}
    description = replace(contents.description, extra=extra)
    write_artifact(older, description, native, contents.symbols, weights)
    code, _, err = outcome(capsys, "train", older, *command[2:], "--learning-rate", "0.1")
    assert (code, len(err)) == (2, 1)
    assert "doesn't say whether a schedule decides the rate" in err[0]


def test_a_diverged_training_leaves_the_state_as_it_was(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    state, bad = folder / "s", folder / "bad.npz"
    trained(capsys, folder, "-i", folder / "data.npz", "--state", state)
    before = state.read_bytes()
    np.savez(bad, x=np.full_like(DATA, np.nan), d=LABELS)
    command = ("train", folder / "m.cvc", "-i", bad, "--state", state, "--learning-rate", "0.5")
    code, _, err = outcome(capsys, *command, "--epochs", "3")
    assert (code, len(err)) == (1, 1)
    assert "epoch 1/3: the loss is nan" in err[0]
    assert state.read_bytes() == before
