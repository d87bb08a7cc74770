"""How epochs, steps and batches go together, and how steps are counted: as in Keras 3.15."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import layers

R = np.random.default_rng(0)
X = R.normal(size=(12, 3)).astype("float32")
Y = R.normal(size=(12, 1)).astype("float32")


def model(optimizer: Any = None) -> Any:
    made = keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer="ones")])
    made.compile(optimizer or keras.optimizers.SGD(0.05), "mse")
    return made


@pytest.mark.parametrize(
    ("settings", "losses"),
    [
        (
            {"batch_size": 2, "steps_per_epoch": 4, "epochs": 4},
            [3.08868, 1.11527, 1.33112, 0.77874],
        ),
        ({"batch_size": 5, "steps_per_epoch": 2, "epochs": 4}, [2.8034, 3.2386, 1.56156, 2.06413]),
        ({"batch_size": 2, "steps_per_epoch": 9, "epochs": 2}, [2.43088, 1.14699]),
    ],
)
def test_an_epoch_of_fewer_steps_goes_on_and_ends_with_the_arrays(
    settings: dict[str, int], losses: list[float]
) -> None:
    with pytest.warns(UserWarning, match=r"the data ended after \d of \d steps"):
        found = model().fit(X, Y, shuffle=False, verbose=0, **settings).history["loss"]
    np.testing.assert_allclose(found, losses, 1e-4)


def test_shuffled_epochs_of_a_pass_see_each_row_once() -> None:
    class Seen(keras.callbacks.Callback):
        counts: list[int] = []  # noqa: RUF012

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.counts.append(batch)

    seen = Seen()
    model().fit(X, Y, batch_size=2, steps_per_epoch=3, epochs=4, verbose=0, callbacks=[seen])
    assert seen.counts == [0, 1, 2] * 4  # two passes of two epochs each: no warning


def test_validation_steps_take_the_first_batches_each_time() -> None:
    found = model().fit(
        X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0, validation_data=(X, Y),
        validation_steps=2, validation_batch_size=3,
    )  # fmt: skip
    np.testing.assert_allclose(found.history["val_loss"], [1.8105, 1.37577], 1e-4)


def test_a_validation_generator_is_used_up_with_a_warning() -> None:
    def batches() -> Iterator[Any]:
        yield from ((X[k : k + 4], Y[k : k + 4]) for k in (0, 4, 8))

    with pytest.warns(UserWarning, match="the data ended in an earlier pass"):
        found = model().fit(X, Y, epochs=3, verbose=0, validation_data=batches()).history
    assert len(found["loss"]) == 3
    assert len(found["val_loss"]) == 1
    with pytest.warns(UserWarning, match="the data ended after 1 of 2 steps"):
        found = (
            model()
            .fit(X, Y, epochs=2, verbose=0, validation_data=batches(), validation_steps=2)
            .history
        )
    assert len(found["val_loss"]) == 2


def test_iterations_count_updates_and_schedules_follow_steps() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.01])
    made = model(keras.optimizers.SGD(schedule, momentum=0.9, gradient_accumulation_steps=2))
    found = []
    for k in range(6):
        made.train_on_batch(X[k : k + 3], Y[k : k + 3])
        optimizer = made.optimizer
        kernel = made.get_weights()[0][0, 0]
        found.append((int(optimizer.iterations), float(optimizer.learning_rate), float(kernel)))
    assert [i for i, _, _ in found] == [0, 1, 1, 2, 2, 3]
    np.testing.assert_allclose([r for _, r, _ in found], [0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    kernels = [1.0, 0.7869, 0.7869, -0.05603, -0.05603, -0.81394]
    np.testing.assert_allclose([w for _, _, w in found], kernels, 1e-4)


def test_a_learning_rate_is_a_number() -> None:
    for wrong in ("0.1", b"0.1", True, None, [0.1]):
        with pytest.raises(ModelError, match="learning_rate must be a number, a LearningRate"):
            keras.optimizers.Adam(wrong)
    optimizer = keras.optimizers.Adam()
    with pytest.raises(ModelError, match="learning_rate must be a number"):
        optimizer.learning_rate = "0.1"


def test_unknown_names_are_told_the_nearest_ones_only() -> None:
    with pytest.raises(ModelError, match=r"unknown metric 'acuracy' \(did you mean 'accuracy'\?\)"):
        keras.metrics.get("acuracy")
    with pytest.raises(ModelError, match=r"did you mean 'mean_squared_error'\?") as caught:
        keras.losses.get("mean_sqared_error")
    assert len(str(caught.value)) < 200
    with pytest.raises(ModelError, match=r"none of the .* their names are in keras.metrics"):
        keras.metrics.get("zzzz")


def test_a_metric_that_needs_arguments_is_told_so() -> None:
    with pytest.raises(ModelError, match=r"metric 'MeanIoU': .*num_classes.*: pass an object"):
        keras.metrics.get("MeanIoU")
