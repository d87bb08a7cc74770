"""Metrics within compiled steps, those that users write too, against the same metrics on predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convc import keras
from convc.keras import layers, metrics


class Spread(metrics.Metric):
    """The largest distance so far, and the number of batches: state that isn't a sum."""

    def __init__(self, name: str = "spread") -> None:
        super().__init__(name=name)
        self.largest = self.add_weight(name="largest", shape=(), initializer="zeros")
        self.seen = self.add_weight(name="seen", initializer="zeros")
        self.batches = self.add_weight(name="batches", shape=(), initializer="zeros", dtype="int64")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        here = keras.ops.max(keras.ops.abs(y_pred - keras.ops.cast(y_true, "float32")))
        self.largest.assign(keras.ops.maximum(self.largest, here))
        self.batches.assign_add(1)
        # Of ones alone: only their number says how large the batch was.
        self.seen.assign_add(keras.ops.sum(keras.ops.ones_like(y_pred)))

    def result(self) -> Any:
        return {"largest": self.largest, "batches": self.batches, "seen": self.seen}


def made() -> list[Any]:
    found = [
        metrics.AUC(), metrics.AUC(20, "PR"), metrics.Precision(), metrics.Recall(0.3),
        metrics.SensitivityAtSpecificity(0.6), metrics.BinaryIoU(threshold=0.4), metrics.F1Score("macro", 0.5),
        metrics.R2Score(), metrics.RootMeanSquaredError(), metrics.TruePositives(), metrics.CosineSimilarity(),
        metrics.TopKCategoricalAccuracy(k=2), metrics.PearsonCorrelation(),
    ]  # fmt: skip
    for k, metric in enumerate(found):
        metric.name = f"metric {k}"
    return found


def test_metrics_of_compiled_steps_are_those_of_the_predictions() -> None:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=[*made(), Spread()], weighted_metrics=["mae"])
    rng = np.random.default_rng(4)
    x = rng.normal(size=(50, 5)).astype(np.float32)
    y = (rng.random((50, 3)) < 0.4).astype(np.uint8)
    weights = rng.random(50).astype(np.float32)
    for _ in range(2):  # The second time begins anew.
        found = model.evaluate(
            x, y, batch_size=16, sample_weight=weights, verbose=0, return_dict=True
        )
    predicted = model.predict(x, verbose=0)
    for metric in made():
        for start in range(0, 50, 16):
            metric.update_state(y[start : start + 16], predicted[start : start + 16])
        wanted = float(metric.result())
        np.testing.assert_allclose(found[metric.name], wanted, rtol=2e-5, err_msg=repr(metric))
    mae = np.abs(y - predicted).mean(-1)
    np.testing.assert_allclose(found["mae"], (mae * weights).sum() / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(found["largest"], np.abs(y - predicted).max(), rtol=1e-6)
    assert found["batches"] == 4
    assert found["seen"] == 150


def test_training_metrics_begin_anew_each_epoch() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation="sigmoid")])
    model.compile(
        "sgd", "bce", metrics=["accuracy", metrics.FalsePositives(name="wrong"), Spread()]
    )
    x = np.linspace(-1, 1, 40).reshape(20, 2).astype(np.float32)
    y = (x.sum(1) > 0).astype(np.float32)
    history = model.fit(x, y, batch_size=8, epochs=3, verbose=0).history
    assert history["batches"] == [3, 3, 3]
    assert history["seen"] == [20, 20, 20]
    assert all(0 <= v <= 20 for v in history["wrong"])
    assert all(0 <= v <= 1 for v in history["accuracy"])


def test_a_metric_of_several_numbers_is_an_array_in_the_logs(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="sigmoid")])
    model.compile("sgd", "bce", metrics=[metrics.F1Score(threshold=0.5)])
    x = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    y = (x[:, :2] > 0.5).astype(np.float32)
    written = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path),
    ]
    history = model.fit(
        x, y, epochs=2, validation_data=(x, y), callbacks=written, verbose=2
    ).history
    assert [v.shape for v in history["f1_score"]] == [(2,), (2,)]
    score = metrics.F1Score(threshold=0.5)
    score.update_state(y, model.predict(x, verbose=0))
    _, found = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(found, np.asarray(score.result()), rtol=1e-5)
    np.testing.assert_array_equal(history["val_f1_score"][-1], found)
    assert "[" in (tmp_path / "log.csv").read_text()
