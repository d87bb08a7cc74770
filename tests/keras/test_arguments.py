"""Wrong arguments are named where they are given, with what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convc import keras
from convc.errors import ConvcError

callbacks: Any = keras.callbacks
constraints: Any = keras.constraints
initializers: Any = keras.initializers
layers: Any = keras.layers
losses: Any = keras.losses
metrics: Any = keras.metrics
optimizers: Any = keras.optimizers


def compiled(*args: Any, **kwargs: Any) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile(*args, **kwargs)


CASES: list[tuple[Callable[[], Any], str]] = [
    (lambda: callbacks.ReduceLROnPlateau(factor="a"), "factor must be a number from 0 to below 1; received 'a'"),
    (lambda: callbacks.ReduceLROnPlateau(patience=1.5), "patience must be an integer ≥ 0; received 1.5"),
    (lambda: callbacks.EarlyStopping(patience="x"), "patience must be an integer ≥ 0; received 'x'"),
    (lambda: callbacks.EarlyStopping(min_delta="x"), "min_delta must be a number; received 'x'"),
    (lambda: callbacks.LearningRateScheduler(3), "schedule must be a function (epoch, rate); received 3"),
    (lambda: callbacks.CSVLogger(3), "filename must be a path; received 3"),
    (lambda: callbacks.TensorBoard(3), "log_dir must be a path; received 3"),
    (lambda: optimizers.Adam(-1), "learning_rate must be a number ≥ 0; received -1"),
    (lambda: optimizers.Adam(float("nan")), "learning_rate must be a number ≥ 0; received nan"),
    (lambda: optimizers.Adam(beta_1=2), "beta_1 must be a number from 0 to 1; received 2"),
    (lambda: optimizers.RMSprop(rho="x"), "rho must be a number from 0 to 1; received 'x'"),
    (lambda: optimizers.SGD(momentum=-1), "momentum must be a number from 0 to 1; received -1"),
    (lambda: optimizers.SGD(clipnorm="x"), "clipnorm must be a number ≥ 0; received 'x'"),
    (lambda: optimizers.AdamW(weight_decay="x"), "weight_decay must be a number ≥ 0; received 'x'"),
    (lambda: optimizers.schedules.ExponentialDecay("x", 1, 1), "initial_learning_rate must be a number; received 'x'"),
    (lambda: optimizers.schedules.CosineDecay(0.1, "x"), "decay_steps must be a number; received 'x'"),
    (lambda: layers.Dense(-3), "units must be a positive integer; received -3"),
    (lambda: layers.Conv2D(3, kernel_size="x"), "kernel_size must be an integer or a tuple of 2 positive integers"),
    (lambda: layers.Rescaling("x"), "scale must be a number or numbers; received 'x'"),
    (lambda: layers.MultiHeadAttention("x", 3), "num_heads must be a positive integer; received 'x'"),
    (lambda: layers.EinsumDense("ab->c", 3), "equation must be of the form 'abc,cd->abd'; received 'ab->c'"),
    (lambda: constraints.MaxNorm("x"), "max_value must be a number ≥ 0; received 'x'"),
    (lambda: initializers.RandomNormal("a"), "mean must be a number; received 'a'"),
    (lambda: initializers.Constant("a"), "value must be a number or an array of numbers; received 'a'"),
    (lambda: losses.Huber(delta="x"), "delta must be a number ≥ 0; received 'x'"),
    (lambda: losses.CategoricalCrossentropy(label_smoothing=3), "label_smoothing must be a number from 0 to 1"),
    (lambda: metrics.TopKCategoricalAccuracy(k=0), "k must be a positive integer; received 0"),
    (lambda: metrics.AUC(num_thresholds="x"), "num_thresholds must be an integer ≥ 0; received 'x'"),
    (lambda: metrics.MeanIoU("x"), "num_classes must be a positive integer; received 'x'"),
    (lambda: keras.utils.to_categorical(["a"]), "expected class numbers"),
    (lambda: compiled("adm", "mse"), "unknown optimizer 'adm' (did you mean 'adam'?)"),
    (lambda: compiled("adam", "mze"), "unknown loss 'mze' (did you mean 'mse'?)"),
    (lambda: compiled("adam", ["mze"]), "unknown loss 'mze'"),
    (lambda: compiled("adam", {"dense": "mze"}), "unknown loss 'mze'"),
    (lambda: compiled("adam", "mse", metrics=["acuracy"]), "unknown metric 'acuracy'"),
    (lambda: compiled("adam", "mse", metrics=[["mean_absolute_eror"]]), "did you mean 'mean_absolute_error'?"),
    (lambda: compiled("adam", 3), "expected a loss"),
    (lambda: compiled("adam", "mse", metrics=[3]), "expected a metric"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), CASES, ids=[m for _, m in CASES])
def test_wrong_argument_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConvcError) as error:
        make()
    assert message in str(error.value)
