"""Models that train without Python: C and C++ programs beside `fit`, their states, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np
import pytest

from convc.cli import training
from convc.cli.building import Request
from convc.scripts import load_model

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "train_c"
EPOCHS, BATCH = 4, 48
OTHER = """
from convc import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="other")
"""
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
BYTES = {"image": "uint8", "digit": "uint8"}
BUILDS = [
    ("digits.o", "-O2"),
    ("digits.o", "-fsanitize=address,undefined"),
    ("./digits.so", "-O1"),
]


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    found = np.load(ROOT / "examples" / "digits" / "digits-test.npz")
    return found["images"].astype(np.uint8)[..., None], found["labels"].astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: tuple[Any, Any]) -> Path:
    """A folder with the digits model that trains as .o, .so and .cvc and the example's data.

    In its folder `states` the same model for floats, with a learning rate that programs set, and another one.
    """
    folder = tmp_path_factory.mktemp("training")
    script = str(EXAMPLE / "model.py")
    built = training.build(Request(script), dtypes=BYTES)
    for suffix in ("o", "so", "cvc"):
        built.artifact.save(folder / f"digits.{suffix}")
    (folder / "states").mkdir()
    plain = training.build(Request(script), optimizer="adam")
    plain.artifact.save(folder / "states" / "digits.o")
    (folder / "other.py").write_text(OTHER)
    other = training.build(Request(str(folder / "other.py")), optimizer="sgd", loss="mse")
    other.artifact.save(folder / "states" / "other.o")
    images, labels = data
    np.c_[images.reshape(-1, 64), labels].tofile(folder / "digits.raw")
    return folder


@pytest.fixture(scope="module")
def trained(data: tuple[Any, Any]) -> Any:
    """The script's model after the same epochs of `fit`."""
    images, labels = data
    model: Any = load_model(str(EXAMPLE / "model.py"))
    model.started_run()  # draws the key of its dropouts first, as when it is compiled with --train
    model.fit(
        images[:800],
        labels[:800],
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(images[800:], labels[800:]),
    )
    return model


def compiled(folder: Path, name: str, compiler: str, *arguments: str) -> Path:
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"no {compiler}")
    command = (path, *STRICT, "-I.", *arguments, "-o", name, "-pthread")
    subprocess.run(command, cwd=folder, check=True)
    return folder / name


def output(folder: Path, *command: str) -> str:
    run = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(folder)}
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def curve(text: str) -> dict[str, list[float]]:
    """The example's lines as a history: epoch 1 loss 0.5 accuracy 0.9 …"""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        words = line.split()
        for name, value in zip(words[2::2], words[3::2], strict=True):
            found.setdefault(name, []).append(float(value))
    return found


@pytest.mark.parametrize(("library", "options"), BUILDS)
def test_training_in_c_gives_the_curve_of_fit(
    library: str, options: str, folder: Path, trained: Any
) -> None:
    main = str(EXAMPLE / "main.c")
    compiled(folder, "train", "cc", "-std=c99", options, main, library)
    (folder / "digits.state").unlink(missing_ok=True)
    found = curve(output(folder, "./train", "digits.raw", "digits.state", str(EPOCHS)))
    assert found.pop("learning_rate") == pytest.approx([0.003, 0.003, 0.001, 0.001], rel=1e-6)
    assert set(found) == set(trained.history.history)
    for name, values in found.items():
        np.testing.assert_allclose(values, trained.history.history[name], rtol=1e-6)
    assert found["val_accuracy"][-1] > 0.9
    context = convc_runtime.load(folder / "digits.cvc", 1).context()
    context.load_state(folder / "digits.state")
    for weight in trained.weights:
        np.testing.assert_array_equal(context.get(weight.path), weight.numpy())


def test_a_program_continues_from_its_state_and_python_too(
    folder: Path, data: tuple[Any, Any]
) -> None:
    images, labels = data
    main = str(EXAMPLE / "main.c")
    compiled(folder, "train", "cc", "-std=c99", "-O1", main, "digits.o")
    state = folder / "continued.state"
    output(folder, "./train", "digits.raw", state.name, "1")
    context = convc_runtime.load(folder / "digits.cvc", 2).context()
    context.load_state(state)
    second = output(folder, "./train", "digits.raw", state.name, "1")
    for begin in range(0, 800, BATCH):
        end = min(begin + BATCH, 800)
        context.entries["train_step"](images[begin:end], labels[begin:end])
    loss, accuracy = context.entries["metrics"]()
    assert f"loss {loss:.9g} accuracy {accuracy:.9g} " in second
    assert second.startswith("continues after 17 steps\n")


@pytest.mark.parametrize("options", ["-O2", "-fsanitize=address,undefined"])
def test_states_in_c_and_what_is_refused(options: str, folder: Path) -> None:
    source = str(ROOT / "tests" / "codegen" / "state.c")
    compiled(folder / "states", "state", "cc", "-std=c99", options, source, "digits.o", "other.o")
    output(folder / "states", "./state")
    assert not list((folder / "states").glob("*.part"))


@pytest.mark.parametrize("options", ["-O1", "-fsanitize=address,undefined"])
def test_states_in_cplusplus(options: str, folder: Path) -> None:
    source = str(ROOT / "tests" / "codegen" / "state.cpp")
    compiled(folder / "states", "state_cpp", "c++", "-std=c++17", options, source, "digits.o")
    output(folder / "states", "./state_cpp")


def test_states_without_an_operating_system(folder: Path) -> None:
    source = folder / "states" / "bare.c"
    source.write_text(
        '#define CONVC_NO_SERVICES\n#include "digits.h"\n'
        "int main(void) { convc_context *c = NULL; int32_t s = convc_context_create(&digits_model, NULL, &c);\n"
        'if (!s) s = convc_save_state(c, "bare.state");\n'
        'if (!s) s = convc_load_state(c, "bare.state");\n'
        "convc_context_destroy(c); return s; }\n"
    )
    compiled(folder / "states", "bare", "cc", "-std=c99", "bare.c", "digits.o")
    output(folder / "states", "./bare")
