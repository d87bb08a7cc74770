"""What importing convc costs and what it must not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("llvmlite", "onnx", "safetensors", "google.protobuf")


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def run(*arguments: str) -> str:
    """The standard output of Python with these arguments, from the source tree."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=True, cwd=ROOT
    )
    return done.stdout


def fastest(*arguments: str) -> float:
    """CPU seconds of the fastest of five runs, process start included: a busy machine takes no more of them."""
    seconds = []
    for _ in range(5):
        start = os.times()
        run(*arguments)
        end = os.times()
        seconds.append(
            end.children_user - start.children_user + end.children_system - start.children_system
        )
    return min(seconds)


def test_import_convc_is_quick() -> None:
    assert fastest("-c", "import convc") < 0.3


def test_help_is_quick() -> None:
    assert fastest("-m", "convc", "--help") < 0.5


def test_import_runtime_is_quick() -> None:
    empty = fastest("-c", "import numpy")
    assert fastest("-c", "import convc_runtime") - empty < 0.1


LOADED = "import sys; print(*[m for m in sys.argv[1:] if m in sys.modules])"


def test_import_convc_loads_nothing_heavy() -> None:
    assert run("-c", f"import convc; {LOADED}", *HEAVY, "numpy").split() == []


NOT_FOR_TRAINING = (
    *("llvmlite", "onnx", "h5py", "rich", "typer", "urllib.request", "http.client"),
    *("ssl", "email", "importlib.metadata", "multiprocessing", "asyncio", "PIL", "matplotlib"),
)


def test_import_keras_loads_nothing_that_training_can_do_without() -> None:
    assert run("-c", f"import convc.keras; {LOADED}", *NOT_FOR_TRAINING).split() == []


def test_import_keras_leaves_the_collector_as_it_was() -> None:
    script = "import gc; {}; import convc.keras; print(gc.isenabled())"
    assert run("-c", script.format("gc.enable()")).strip() == "True"
    assert run("-c", script.format("gc.disable()")).strip() == "False"


@pytest.mark.parametrize("arguments", [["--help"], ["compile", "--help"], ["bench", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; from convc.cli import main; heavy = {HEAVY!r}\n"
        f"assert main({arguments!r}) == 0\n"
        "print('loaded:', *[m for m in heavy if m in sys.modules])"
    )
    assert run("-c", script).splitlines()[-1].split() == ["loaded:"]


def test_the_front_door_names_what_it_has() -> None:
    assert run("-c", "import convc; print(dir(convc))").strip() == (
        "['__version__', 'compile', 'driver', 'keras']"
    )
