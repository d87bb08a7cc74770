"""Results that can't be written: one line, exit code 8, no half-written file."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_imports import environment

SCRIPT = """
from convc import keras
m = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)], name="wide")
"""


def compiled(folder: Path, output: str, limit: int | None = None) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of `convc compile`, with a limit on the size of files."""
    (folder / "wide.py").write_text(SCRIPT)

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "convc", "compile", "wide.py", "-o", output],
        cwd=folder,
        env=environment() | {"XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        preexec_fn=restrict,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("name", ["wide.cvc", "wide.so", "wide.o", "wide.ll"])
def test_a_full_disk_leaves_no_file(tmp_path: Path, name: str) -> None:
    code, err = compiled(tmp_path, name, limit=2_000)
    assert (code, len(err)) == (8, 1), err
    assert name in err[0]
    assert not [p.name for p in tmp_path.iterdir() if p.name not in ("wide.py", "cache")]


def test_an_older_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    (tmp_path / "wide.cvc").write_bytes(b"older")
    code, _ = compiled(tmp_path, "wide.cvc", limit=2_000)
    assert code == 8
    assert (tmp_path / "wide.cvc").read_bytes() == b"older"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    code, err = compiled(tmp_path, "none/wide.cvc")
    assert (code, len(err)) == (8, 1), err
    assert "none/wide.cvc" in err[0]
