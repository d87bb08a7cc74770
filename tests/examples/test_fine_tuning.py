"""Fine-tuning: a few steps of the example, and that frozen layers have no part in the backward pass."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.keras.visualization import read_log
from tests.test_imports import ROOT

SCRIPT = str(ROOT / "examples" / "fine_tuning" / "run.py")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users run it: the compiler's own tests verify every step of it."""
    monkeypatch.setenv("CONVC_VERIFY", "0")


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(SCRIPT)


def test_a_few_steps(
    example: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "curves.csv"
    found = example["main"](["--epochs", "4", "--base-epochs", "3", "--curves", str(log)])
    assert list(found) == ["frozen base", "then unfrozen", "from nothing"]
    assert found["then unfrozen"]["accuracy"] > 0.5
    assert read_log(log)["epoch"] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert "5 to 9 from 50 pictures, 448 to test on" in capsys.readouterr().out


def test_frozen_layers_cost_no_backward_work(example: dict[str, Any]) -> None:
    operators: dict[bool, list[str]] = {}
    base = example["small_base"]()
    model = example["with_head"](base)
    x, y = np.ones((4, 8, 8, 1), np.float32), np.arange(4)
    before = [w.copy() for w in base.get_weights()]
    for trainable in (True, False):
        example["set_trainable"](base, trainable)
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        if not trainable:
            before = [w.copy() for w in base.get_weights()]
        model.train_on_batch(x, y)
        (training,) = model.current_run._trainings.values()
        nodes = training.graphs["train_step"].nodes
        operators[trainable] = [n.op.mnemonic for n in nodes]
    for mine, old in zip(base.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)
    assert operators[True].count("conv2d_weight_gradient") == 3
    assert operators[False].count("conv2d_weight_gradient") == 0
    assert operators[False].count("conv2d") == 3
    assert len(operators[False]) < len(operators[True]) / 2


def test_batch_norms_of_an_unfrozen_base_keep_their_statistics(example: dict[str, Any]) -> None:
    base = example["small_base"]()
    example["set_trainable"](base, True)
    kinds = {type(layer).__name__: layer.trainable for layer in base.layers}
    assert kinds["Conv2D"]
    assert not kinds["BatchNormalization"]


def test_mobilenet_fits_the_digits(example: dict[str, Any]) -> None:
    base = example["mobilenet_v2"](None)
    assert base.output_shape == (None, 1280)
    example["set_trainable"](base, True)
    assert not [w for w in base.trainable_weights if "gamma" in w.path]
    with pytest.raises(Exception, match=r"none\.h5"):
        example["mobilenet_v2"]("none.h5")
