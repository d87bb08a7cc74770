"""Training curves: what is read from logs, what is drawn, and what is told when it can't be."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError, InputFileError, OutputError, UsageError
from convc.keras.visualization import plot_history, read_log
from convc.keras.visualization.curves import best_epochs

LOG = "epoch,accuracy,loss,val_accuracy,val_loss\n0,.5,2,.4,2.5\n1,.75,1,.5,NA\n2,.8,.5,.45,1.25\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_a_log_that_csv_logger_writes_is_the_history(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    path = tmp_path / "log.csv"
    history = model.fit(
        rng.normal(size=(8, 3)),
        rng.normal(size=(8, 1)),
        epochs=3,
        verbose=0,
        callbacks=[keras.callbacks.CSVLogger(path, separator=";")],
    )
    found = read_log(path)
    assert found["epoch"] == [0, 1, 2]
    assert found["loss"] == history.history["loss"]
    assert set(found) == {"epoch", "loss"}, "the empty column val_loss is left out"


def test_missing_values_are_nan_and_repeated_epochs_count_once(log: Path) -> None:
    log.write_text(LOG + "2,.9,.25,.6,1\n")
    found = read_log(log)
    assert found["loss"] == [2, 1, 0.25]
    assert math.isnan(found["val_loss"][1])
    rows = {row["metric"]: row for row in best_epochs(found)}
    assert rows["val_loss"]["min_epoch"] == 2
    assert rows["val_loss"]["epochs"] == 2
    assert (rows["accuracy"]["max"], rows["accuracy"]["max_epoch"]) == (0.9, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a first line of names"),
        ("loss\n1\n", "expected a first line of names"),
        ("epoch,loss\n0\n", "log.csv:2: expected 2 columns, got 1"),
        ("epoch,loss\n0,much\n", "log.csv:2: expected a number, got 'much'"),
    ],
)
def test_damaged_logs(log: Path, text: str, message: str) -> None:
    log.write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_log(log)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such file"):
        read_log(tmp_path / "none.csv")


def test_without_matplotlib_one_line_says_how_to_get_it(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'convc\[plot\]'"):
        plot_history(read_log(log))
    assert best_epochs(read_log(log))


class Broken:
    def find_spec(self, name: str, *_: Any) -> None:
        if name == "matplotlib":
            raise RuntimeError("built for another numpy")


def test_a_broken_matplotlib_is_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UsageError, match="can't be used: built for another numpy"):
        plot_history(read_log(log))


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        ({}, DataError, "expected a value per epoch"),
        ({"epoch": [0]}, DataError, "expected a value per epoch"),
        ({"loss": [1, 2], "val_loss": [1]}, DataError, "val_loss: expected 2 values"),
        ({"loss": ["a"]}, DataError, "expected a number per epoch"),
        ([1, 2], UsageError, "got list"),
    ],
)
def test_wrong_histories(history: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plot_history(history)


def test_panels_and_lines(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = plot_history(read_log(log), tmp_path / "c.svg")
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    training, validation = accuracy.lines
    np.testing.assert_array_equal(training.get_xydata(), [[0, 0.5], [1, 0.75], [2, 0.8]])
    assert validation.get_label() == "validation"
    assert (tmp_path / "c.svg").read_text().lstrip().startswith("<?xml")
    assert len(plot_history(read_log(log), metrics=["val_loss"]).axes) == 1
    with pytest.raises(UsageError, match="no metric 'f1': there are"):
        plot_history(read_log(log), metrics=["f1"])
    with pytest.raises(UsageError, match=r"expected a name that ends in"):
        plot_history(read_log(log), tmp_path / "c.txt")
    with pytest.raises(OutputError, match="can't write"):
        plot_history(read_log(log), tmp_path / "no" / "c.png")
