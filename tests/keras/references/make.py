"""Computes the numbers in `keras.json` with Keras itself: `python -m tests.keras.references.make [file]`.

It needs Keras 3 with TensorFlow, or with torch for another file to compare.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.references.cases import (
    CONSTRAINTS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    REGULARIZERS,
    SCHEDULES,
    STEPS,
    WEIGHTS,
    WITHOUT_WEIGHTS,
    batch,
    data,
    network,
    penalized,
    wave,
    weights,
)

FILE = Path(__file__).with_name("keras.json")


def listed(value: Any) -> Any:
    return np.asarray(value).tolist()


def loss(keras: Any, name: str) -> list[Any]:
    """Each sample's loss; the mean, that with weights, the weighted sum, and that over the weights' sum."""
    kind, make = LOSSES[name]
    y_true, y_pred = data(kind)
    numbers = []
    for reduction in (None, "sum_over_batch_size"):
        numbers.append(listed(reduced(make(keras), reduction)(y_true, y_pred)))
    if name.startswith(WITHOUT_WEIGHTS):
        return numbers
    for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight"):
        numbers.append(listed(reduced(make(keras), reduction)(y_true, y_pred, weights(kind))))
    return numbers


def reduced(loss: Any, reduction: str | None) -> Any:
    loss.reduction = reduction
    return loss


def metric(keras: Any, name: str) -> list[Any]:
    """The result after one batch, after half of it again, and with weights."""
    kind, make = METRICS[name]
    y_true, y_pred = data(kind)
    if "top" in name:
        # TensorFlow finds the k largest of float32 only.
        y_pred = y_pred.astype(np.float32)
    metric = make(keras)
    metric.update_state(y_true, y_pred)
    numbers = [listed(metric.result())]
    metric.update_state(y_true[3:], y_pred[3:])
    numbers.append(listed(metric.result()))
    if "iou" not in name:
        metric.reset_state()
        given = weights(kind) if "auc" in name else WEIGHTS
        metric.update_state(y_true, y_pred, sample_weight=given)
        numbers.append(listed(metric.result()))
    return numbers


def schedules(keras: Any) -> dict[str, Any]:
    return {n: [float(make(keras)(step)) for step in STEPS] for n, make in SCHEDULES.items()}


def limits(keras: Any) -> dict[str, Any]:
    """Regularizers and constraints of a matrix."""
    w = wave(4, 3).astype(np.float32)
    cases = {**REGULARIZERS, **CONSTRAINTS}
    return {n: listed(make(keras)(keras.ops.convert_to_tensor(w))) for n, make in cases.items()}


def optimizer(keras: Any, name: str) -> list[Any]:
    """Two variables after steps 4, 8 and 12 with given gradients, and their averages if there are any."""
    optimizer = OPTIMIZERS[name](keras)
    starts = (wave(3, 2), wave(2, start=1.1))
    variables = [keras.Variable(a, dtype="float64") for a in starts]
    numbers = []
    for step in range(12):
        gradients = [keras.ops.convert_to_tensor(g, "float64") for g in gradients_at(step)]
        optimizer.apply(gradients, variables)
        if step % 4 == 3:
            numbers.append([listed(v) for v in variables])
    if optimizer.use_ema:
        numbers.append([listed(v) for v in optimizer._model_variables_moving_average])
    return numbers


def gradients_at(step: int) -> list[Any]:
    return [wave(3, 2, start=step), wave(2, start=2.0 + step)]


def training(keras: Any, name: str) -> list[Any]:
    """The losses of every seventh of 50 steps on one batch, and the batch norm's moving statistics after them."""
    model = network(keras)
    model.compile(OPTIMIZERS[name](keras), "sparse_categorical_crossentropy")
    losses = curve(model, *batch(), 50)
    return [losses[::7], [listed(w) for w in model.get_weights()[4:6]]]


def penalties(keras: Any) -> list[Any]:
    """The losses of 15 steps with penalties and constraints, that of evaluation, and sums of the weights."""
    x, y = batch()
    model = penalized(keras)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "sparse_categorical_crossentropy")
    losses = curve(model, x, y, 15)
    loss = model.evaluate(x, y, batch_size=20, verbose=0)
    return [losses, loss, [float(np.abs(w).sum()) for w in model.get_weights()]]


def uneven(keras: Any) -> list[Any]:
    """Losses and accuracies of epochs whose last batch is smaller, and of an evaluation."""
    x, y = batch()
    model = network(keras)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=7, epochs=4, shuffle=False, verbose=0)
    found = [history.history["loss"], history.history["accuracy"]]
    return [*found, model.evaluate(x, y, batch_size=7, verbose=0)]


def curve(model: Any, x: Any, y: Any, steps: int) -> list[float]:
    """The loss of each step on the whole batch."""
    history = model.fit(x, y, batch_size=len(x), epochs=steps, shuffle=False, verbose=0)
    return [float(v) for v in history.history["loss"]]


def made(keras: Any) -> dict[str, Any]:
    """All numbers, in float64 but for the schedules, regularizers and constraints, which Keras has in float32."""
    keras.backend.set_floatx("float32")
    found: dict[str, Any] = {"schedules": schedules(keras), "limits": limits(keras)}
    keras.backend.set_floatx("float64")
    found["losses"] = {name: loss(keras, name) for name in LOSSES}
    found["metrics"] = {name: metric(keras, name) for name in METRICS}
    found["optimizers"] = {name: optimizer(keras, name) for name in OPTIMIZERS}
    found["training"] = {name: training(keras, name) for name in OPTIMIZERS}
    return {**found, "penalties": penalties(keras), "uneven": uneven(keras)}


def short(value: Any) -> Any:
    """Numbers with 11 digits, which is what comparisons need."""
    if isinstance(value, float):
        return float(f"{value:.11g}")
    if isinstance(value, list):
        return [short(v) for v in value]
    return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value


def main() -> None:
    import keras

    found = {"made by": f"Keras {keras.__version__}, {keras.backend.backend()}", **made(keras)}
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(json.dumps(short(found), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
