"""What a hurried user types: every command answers in one line that names the thing, with an exit code of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convc.cli import main
from tests.cli.test_main import outcome

SCRIPT = """
from convc import keras
model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, name="d")], name="m")
"""
WRONG = {
    "none.py": 3, "none.cvc": 3, "none.onnx": 3, "none.keras": 3, "none": 3, "folder.py": 3, "folder.cvc": 3,
    "folder.onnx": 3, "empty.cvc": 3, "empty.keras": 3, "cut.cvc": 3, "altered.cvc": 3, "text.onnx": 3,
    "text.keras": 3, "x.npy": 3, "empty.py": 4, "syntax.py": 4, "raises.py": 4, "m.py:other": 4,
}  # fmt: skip
"""Files that are no models, and the exit codes of the commands that run models."""
EVERYWHERE = ("none.cvc", "folder.onnx", "cut.cvc", "text.keras", "syntax.py")
"""Those that all commands are tried with."""
COMMANDS = {
    "compile": ("-o", "out.cvc"),
    "run": ("-i", "x.npy"),
    "bench": ("--seconds", "0.01"),
    "inspect": (),
    "export": ("-o", "out.onnx"),
    "verify": (),
    "diff": (),
    "features": ("--filters",),
    "doctor": (),
    "optimize": ("-o", "out.onnx"),
    "train": ("-i", "x.npy", "--state", "s"),
    "curves": (),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clumsy")
    for name in ("folder.py", "folder.cvc", "folder.onnx", "folder.npy"):
        (path / name).mkdir()
    for name in ("empty.py", "empty.cvc", "empty.keras", "empty.npy"):
        (path / name).touch()
    for name in ("text.onnx", "text.keras"):
        (path / name).write_text("hello\n")
    (path / "notes.csv").write_text("epoch,loss\n0,1\n")
    (path / "syntax.py").write_text("def f(:\n")
    (path / "raises.py").write_text("raise RuntimeError('boom')\n")
    (path / "m.py").write_text(SCRIPT)
    assert main(["compile", str(path / "m.py"), "-o", str(path / "m.cvc")]) == 0
    whole = bytearray((path / "m.cvc").read_bytes())
    (path / "cut.cvc").write_bytes(whole[:3000])
    whole[-5] ^= 1
    (path / "altered.cvc").write_bytes(whole)
    np.save(path / "x.npy", np.zeros((2, 4), np.float32))
    np.save(path / "text.npy", np.array(["a"]))
    np.save(path / "number.npy", np.float32(3))
    (path / "cut.npy").write_bytes((path / "x.npy").read_bytes()[:100])
    return path


@pytest.mark.parametrize(
    ("command", "source"),
    [(c, s) for c in COMMANDS for s in WRONG if c in ("compile", "run") or s in EVERYWHERE],
)
def test_what_is_no_model_is_said_in_one_line(
    command: str,
    source: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    code, _, err = outcome(capsys, command, source, *COMMANDS[command])
    assert len(err) == 1, err
    assert source.partition(":")[0] in err[0]
    assert code in (2, 3, 4, 7)
    if command == "run":
        assert code == WRONG[source], err
    assert not [p for p in folder.iterdir() if p.name.startswith((".", "out", "s."))]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("run", "m.cvc", "-i", "m.py"), 3, "m.py: not a .npy or .npz file: it begins with b'\\nfrom "),
        (("run", "m.cvc", "-i", "empty.npy"), 3, "empty.npy: not a .npy or .npz file"),
        (("run", "m.cvc", "-i", "cut.npy"), 3, "cut.npy: not a .npy or .npz file"),
        (("run", "m.cvc", "-i", "folder.npy"), 3, "folder.npy: Is a directory"),
        (("run", "m.cvc", "-i", "text.npy"), 7, "input x: expected float32, got str"),
        (("run", "m.cvc", "-i", "number.npy"), 7, "input x: expected shape (N, 4), got ()"),
        (("run", "m.cvc", "-i", "y=x.npy"), 7, "expected the inputs x, got y"),
        (("run", "m.cvc", "-i", "x.npy", "--state", "none"), 2, "m has no state"),
        (("run", "m.cvc", "-i", "x.npy", "--threads", "4096"), 2, "--threads"),
        (("run", "m.cvc", "-i", "x.npy", "-o", "folder.npy"), 8, "can't write folder.npy: it is a folder"),
        (("compile", "m.py", "-o", "folder.cvc"), 8, "can't write folder.cvc: it is a folder"),
        (("compile", "m.py", "-o", "out.txt"), 2, "out.txt: expected a name that ends in .cvc"),
        (("compile", "m.py", "-o", "x.npy/a.cvc"), 8, "can't write x.npy/a.cvc: Not a directory"),
        (("compile", "m.py", "--dump", "x.npy"), 8, "can't make the folder x.npy: it is a file"),
        (("compile", "notes.csv"), 3, "notes.csv: expected a model, whose name ends in .py, .onnx, .keras, .h5"),
        (("doctor", "m.py"), 2, "m.py: expected a file whose name ends in .onnx, .keras, .h5"),
        (("optimize", "m.py", "-o", "a.onnx"), 2, "m.py: expected a model.onnx"),
        (("compile", "m.cvc"), 2, "m.cvc is compiled already: expected the model it was made of"),
        (("run-script", "folder.py"), 3, "folder.py: Is a directory (expected a Python program)"),
        (("run-script", "syntax.py"), 4, "syntax.py:1: SyntaxError: invalid syntax"),
        (("run-script", "altered.cvc"), 4, "altered.cvc:1: SyntaxError"),
    ],
)  # fmt: skip
def test_other_slips(
    arguments: tuple[str, ...],
    exit_code: int,
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    code, _, err = outcome(capsys, *arguments)
    assert (code, len(err)) == (exit_code, 1), err
    assert message in err[0]


def test_a_script_sees_no_arguments_of_ours(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["convc", "compile", "arguments.py", "--exact"])
    Path("arguments.py").write_text(f"import sys\nassert sys.argv == ['arguments.py']\n{SCRIPT}")
    assert outcome(capsys, "inspect", "arguments.py")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("bench", "m.py", "--threads", "0"), 2, "--threads: expected a number of at least 1, got '0'"),
        (("bench", "m.py", "--threads=5000"), 2, "--threads: expected a number of at most 1024, got '5000'"),
        (("verify", "m.py", "--batch", "two"), 2, "--batch: expected a whole number, got 'two'"),
        (("verify", "m.py", "--tolerance", "1x"), 2, "--tolerance: expected a number, got '1x'"),
        (("bench", "m.cvc", "--target", "x86-64-v2"), 2, "m.cvc is compiled already: --target is for the model"),
        (("inspect", "m.cvc", "--batch", "4"), 2, "m.cvc is compiled already: --batch is for the model"),
        (("compile", "m.py", "--records", "folder.py"), 3, "folder.py: Is a directory (expected tuning records)"),
        (("compile", "m.py", "--dump", "notes.csv"), 8, "can't make the folder notes.csv: it is a file"),
        (("features", "m.py", "-i", "x.npy", "-o", "a.gif"), 2, "a.gif: expected a folder, or a name that ends in"),
        (("features", "m.py", "-i", "x.npy", "--layer", "d", "-o", "s", "--image", "2"), 2, "the batch's 2, got 2"),
        (("export", "m.py", "--training", "--batch", "4"), 2, "--batch is for inference graphs"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_is_named_with_its_value(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    found, _, err = outcome(capsys, *arguments)
    assert (found, len(err)) == (code, 1), err
    assert said in err[0]
