"""Keras programs run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """\
import argparse, sys
import keras
from tensorflow.keras import layers
from keras.models import Sequential
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int)
arguments = parser.parse_args()
model = Sequential([layers.Input((4,)), layers.Dense(arguments.width)])
print(__name__, type(model).__module__, model.count_params())
"""


def run(path: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    command = [sys.executable, "-m", "convc", "run-script", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_program_gets_keras_and_its_own_arguments(tmp_path: Path) -> None:
    found = run(tmp_path / "program.py", PROGRAM, "--width", "3")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "__main__ convc.keras.engine.model 15\n"


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.exit(5)\n", 5, ""),
        ("raise RuntimeError('broken')\n", 1, "RuntimeError: broken\n"),
        ("layers.Dense('wide')\n", 4, "convc: "),
    ],
)
def test_a_program_ends_as_it_would_alone(
    tmp_path: Path, ending: str, code: int, said: str
) -> None:
    found = run(tmp_path / "program.py", PROGRAM + ending, "--width", "3")
    assert found.returncode == code
    assert said in found.stderr
    if code:
        assert "convc/scripts.py" not in found.stderr
