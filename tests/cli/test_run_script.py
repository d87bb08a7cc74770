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


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("from keras.layers import Conv2d\n", "convc.keras.layers has no 'Conv2d' (did you mean"),
        ("from keras.utils import Nothing\n", "lent as keras.utils, has no 'Nothing'"),
        ("from keras.nothing import Thing\n", "lent as keras, has no 'nothing'"),
        ("import keras\nkeras.nothing\n", "lent as keras, has no 'nothing'"),
        ("import tensorflow.compat.v1 as tf\n", "convc lends no module tensorflow.compat"),
    ],
)
def test_imports_of_what_is_not_there_are_told_by_convc(
    tmp_path: Path, program: str, said: str
) -> None:
    path = tmp_path / "program.py"
    found = run(path, program)
    assert found.returncode == 5
    assert found.stderr.startswith(f"convc: {path}:{program.count(chr(10))}: ")
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_program_may_do_without_what_is_not_there(tmp_path: Path) -> None:
    program = """\
try:
    from keras.layers import Nothing
except ImportError:
    import keras
    print(hasattr(keras, "nothing"), hasattr(keras.layers, "Nothing"))
"""
    found = run(tmp_path / "program.py", program)
    assert (found.returncode, found.stdout, found.stderr) == (0, "False False\n", "")
