"""The tutorials as they are followed: their parameter counts, and that they learn from a few made-up pictures."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.scripts import LENT_AS, lending

FOLDER = Path(__file__).parents[2] / "examples" / "tutorials"
PARAMETERS = {
    "mnist_dense": (26_506, 26_506),
    "mnist_conv": (823_338, 823_338),
    "mnist_pool": (70_698, 70_698),
    "mnist_callback": (1_087_106, 1_087_106),
    "mnist_rmsprop": (93_322, 93_322),
    "cifar_augmented": (744_874, 744_682),
}
"""All parameters, and those that are trained."""


def program(name: str) -> dict[str, Any]:
    with lending(LENT_AS):
        return runpy.run_path(str(FOLDER / f"{name}.py"))


def elements(variables: Any) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    model = program(name)["build"]()
    assert (model.count_params(), elements(model.trainable_weights)) == PARAMETERS[name]


def test_every_tutorial_is_tested() -> None:
    assert {p.stem for p in FOLDER.glob("*.py")} == set(PARAMETERS)


def stripes(shape: tuple[int, ...], count: int, seed: int) -> tuple[Any, Any]:
    """Bytes of ten kinds of pictures: bright bands at ten heights, in noise."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
    images = random.integers(0, 60, (count, *shape)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        low = 2 + 2 * int(label)
        image[low : low + 4] += 180
    return images, labels


def written(path: Path, shape: tuple[int, ...], train: int, test: int) -> str:
    images, labels = stripes(shape, train, 0)
    test_images, test_labels = stripes(shape, test, 1)
    np.savez(path, x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)
    return str(path)


@pytest.mark.parametrize(
    ("name", "rows", "epochs", "accuracy"),
    [
        ("mnist_dense", 2000, 6, 0.6),
        ("mnist_conv", 256, 2, 0.15),
        ("mnist_pool", 640, 4, 0.3),
        ("mnist_callback", 512, 2, 0.1),
        ("mnist_rmsprop", 512, 2, 0.5),
    ],
)
def test_mnist(tmp_path: Path, name: str, rows: int, epochs: int, accuracy: float) -> None:
    data = written(tmp_path / "data.npz", (28, 28), rows, 100)
    main: Callable[..., Any] = program(name)["main"]
    with lending(LENT_AS):
        history = main(["--data", data, "--epochs", str(epochs)])
    assert history["loss"][-1] < history["loss"][0]
    found = history.get("val_accuracy") or history["test_accuracy"]
    assert max(found) > accuracy


def test_cifar(tmp_path: Path) -> None:
    data = written(tmp_path / "data.npz", (32, 32, 3), 96, 20)
    found = program("cifar_augmented")["main"](["--data", data, "--epochs", "2"])
    for history in found.values():
        assert history["loss"][-1] < history["loss"][0]
        assert len(history["val_accuracy"]) == 2
