"""The command line's frame: help, versions, exit codes, errors in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convc
from convc.cli import main
from convc.cli.app import EXAMPLES
from convc.target import TARGETS
from tests.test_imports import ROOT, environment

COMMANDS = ("compile", "run", "bench", "inspect", "verify")


def outcome(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str, list[str]]:
    """The exit code, the standard output and the lines on stderr of one command."""
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, "--version") == (0, f"convc {convc.__version__}\n", [])


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "--help")
    assert code == 0
    assert all(f" {command} " in out for command in COMMANDS)


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys)
    assert code == 2
    assert "Usage: convc" in out


@pytest.mark.parametrize("command", [c.__name__.replace("_", "-") for c in EXAMPLES])
def test_each_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = outcome(capsys, command, "--help")
    assert (code, err) == (0, [])
    assert f"Example: convc {command} " in out


def test_defaults_that_are_no_values_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = outcome(capsys, "compile", "--help")
    text = " ".join(out.replace("│", " ").split())
    for default in ("the model's name.cvc", "by -o, or cvc", "all cores", "in the cache folder"):
        assert f"[default: ({default})]" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["complie"], 2, "complie"),
        (["compile"], 2, "Missing argument 'MODEL'"),
        (["compile", "m.py", "--fast"], 2, "--fast"),
        (["compile", "m.py", "--batch", "0"], 2, "--batch: expected a number from 1 or 'dynamic'"),
        (["compile", "m.py", "--threads", "none"], 2, "--threads"),
        (["compile", "m.py", "--emit", "exe"], 2, "--emit: expected one of cvc, so, obj"),
        (
            ["compile", "m.py", "-o", "m.cvc", "--emit", "so"],
            2,
            "m.cvc: --emit so writes .so files",
        ),
        (["compile", "m.py", "-o", "m.exe"], 2, "m.exe: expected a name that ends in .cvc"),
        (["compile", "none.py"], 3, "none.py: no such file"),
        (["compile", "m.py", "--target", "vax"], 6, "unknown target 'vax': expected host, x86-64"),
        (["run", "none.cvc", "-i", "x.npy"], 3, "none.cvc: No such file"),
        (["bench", "none.cvc"], 3, "none.cvc"),
        (["inspect", "none.cvc"], 3, "none.cvc"),
        (["verify", "none.py"], 3, "none.py"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(
        "from convc import keras\nm = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
    )
    got, out, err = outcome(capsys, *arguments)
    assert (got, out, len(err)) == (code, "", 1), err
    assert err[0].startswith("convc: ")
    assert message in err[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.py"]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = outcome(capsys, "compile", tmp_path / "none.py", "--debug")
    assert code == 3
    assert err[0] == "Traceback (most recent call last):"
    assert err[-1].startswith("convc: ")


def test_a_bug_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("convc.scripts.split_spec", lambda spec: 1 / 0)
    code, _, err = outcome(capsys, "compile", tmp_path / "none.py")
    assert code == 70
    assert err == [
        "convc: internal error: ZeroDivisionError: division by zero (--debug shows where)"
    ]


def test_ctrl_c_leaves_with_130_and_no_file(tmp_path: Path) -> None:
    script = tmp_path / "m.py"
    script.write_text("import time, pathlib\npathlib.Path('started').touch()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "convc", "compile", "m.py"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(200):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "convc: interrupted\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.py", "started"]


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m convc compile --help | head -c 1",
        shell=True,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_the_help_names_every_target_and_every_kind_of_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # so that no name is broken
    assert main(["compile", "--help"]) == 0
    text = capsys.readouterr().out
    assert "cvc|so|obj|asm|llvm|ir|cuda" in text
    assert all(name in text for name in TARGETS)
