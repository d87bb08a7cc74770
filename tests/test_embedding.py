"""The embedding examples, built and run on the compiled digits network as their READMEs say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import convc_runtime
import numpy as np
import pytest

import convc

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.o, digits.so, digits.cvc, images.raw and classes.txt, what the model says of them."""
    folder = tmp_path_factory.mktemp("digits")
    compiled = convc.compile(DIGITS / "model.py")
    for suffix in ("o", "so", "cvc"):
        compiled.save(folder / f"digits.{suffix}")
    images = np.load(DIGITS / "digits-test.npz")["images"]
    images.tofile(folder / "images.raw")
    scores = convc_runtime.load(folder / "digits.cvc")((images / 16).astype(np.float32)[..., None])
    (folder / "classes.txt").write_text("".join(f"{c}\n" for c in scores.argmax(1)))
    return folder


def _output(folder: Path, *command: str) -> str:
    run = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(folder)}
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("library", "options"),
    [("digits.o", "-O2"), ("digits.o", "-fsanitize=address,undefined"), ("./digits.so", "-O1")],
)
@pytest.mark.parametrize(
    ("compiler", "standard", "source"),
    [("cc", "-std=c99", "embed_c/main.c"), ("c++", "-std=c++17", "embed_cpp/main.cpp")],
)
def test_c_and_cplusplus_programs_classify_like_python(
    compiler: str, standard: str, source: str, options: str, library: str, folder: Path
) -> None:
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"no {compiler}")
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", standard, options)
    main = str(ROOT / "examples" / source)
    subprocess.run(
        [path, *strict, "-I.", main, library, "-o", "program", "-pthread"], cwd=folder, check=True
    )
    assert _output(folder, "./program", "images.raw") == (folder / "classes.txt").read_text()


def test_the_python_application_runs_without_convc(folder: Path) -> None:
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:];"
        "sys.modules.update(convc=None, llvmlite=None); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = ROOT / "examples" / "embed_python" / "run.py"
    arguments = map(str, (ROOT / "runtime", script, "digits.cvc", DIGITS / "digits-test.npz"))
    command = (sys.executable, "-P", "-c", code, *arguments)
    right = float(_output(folder, *command).split("(")[1].split("%")[0])
    assert right >= 98
