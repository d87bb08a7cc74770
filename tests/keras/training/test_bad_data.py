"""Data and arguments of fit, evaluate and predict that don't make sense are refused, never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, DataError, ModelError, OutputError, UsageError
from convc.keras.training import data
from convc.types import DType

X = np.ones((4, 3), np.float32)
Y = np.ones((4, 1), np.float32)


def model(built: bool = True) -> Any:
    first = [keras.Input((3,))] if built else []
    made = keras.Sequential([*first, keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def batches(count: int) -> Iterator[tuple[Any, Any]]:
    return ((X, Y) for _ in range(count))


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, "datetime64[s]", object, "S3"])
def test_only_real_numbers_are_data(dtype: Any) -> None:
    with pytest.raises(
        DataError, match=r"^target/dense.*: expected real numbers; received an array of dtype"
    ):
        model().fit(X, Y.astype(dtype), verbose=0)
    with pytest.raises(
        DataError, match=r"^input 'input_layer.* of model 'sequential.*: expected real numbers"
    ):
        model().predict(X.astype(dtype), verbose=0)


def test_validation_without_targets_says_what_is_expected() -> None:
    with pytest.raises(
        UsageError,
        match=r"no targets y were given: expected x and y, and \(x, y\) as validation_data",
    ):
        model().fit(X, Y, validation_data=X, verbose=0)


@pytest.mark.parametrize(("shape", "hinted"), [((4, 5), False), ((4,), True), ((4, 1), True)])
def test_targets_of_other_classes_are_not_taken_for_class_numbers(
    shape: tuple[int, ...], hinted: bool
) -> None:
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="softmax")])
    made.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ModelError, match="expected targets of the predictions' shape") as caught:
        made.fit(X, np.ones(shape, np.float32), verbose=0)
    assert ("to_categorical" in str(caught.value)) is hinted


def test_an_array_of_words_is_refused_in_one_line() -> None:
    with pytest.raises(
        ModelError, match=r"expected a tensor or numbers; received an array of dtype <U1$"
    ):
        keras.ops.add(np.array(["a"] * 40), 1.0)


def test_bfloat16_is_data() -> None:
    made, x = model(), X / 3
    rounded = x.astype(DType.bfloat16.numpy)
    found = made.predict(rounded, verbose=0)
    np.testing.assert_array_equal(found, made.predict(rounded.astype(np.float32), verbose=0))


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_data_without_a_batch_are_no_result_of_zero(method: str, built: bool) -> None:
    with pytest.raises(DataError, match="expected batches; the data had none"):
        getattr(model(built), method)(batches(0), verbose=0)


def test_epochs_after_the_data_ended_are_not_recorded() -> None:
    made = model()
    with pytest.warns(UserWarning, match="the data ended before epoch 2"):
        history = made.fit(batches(2), epochs=3, verbose=0)
    assert len(history.history["loss"]) == len(history.epoch) == 1
    with pytest.warns(UserWarning, match="the data ended after 0 of 2 steps"):
        assert len(made.fit(batches(2), epochs=3, steps_per_epoch=2, verbose=0).epoch) == 1


@pytest.mark.parametrize("steps", [None, 3])
def test_batches_before_the_first_step_of_an_epoch_are_passed_over(steps: int | None) -> None:
    numbered = ((np.full((1, 3), k, np.float32), Y[:1]) for k in range(3))
    made = model()
    source = data.source(made.ports, numbered, steps=steps)
    found = [feeds[made.input_names[0]][0, 0] for feeds in source.epoch(0, 1)]
    assert found == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": -1}, r"epochs: expected a number from 0; received -1"),
        ({"epochs": "2"}, r"epochs: .*received '2'"),
        ({"steps_per_epoch": 0}, r"steps_per_epoch.*: expected a number from 1; received 0"),
        ({"steps_per_epoch": 1.5}, r"steps_per_epoch.*received 1.5"),
        ({"validation_data": (X, Y), "validation_freq": 0}, r"validation_freq: .*received 0"),
        ({"validation_data": (X, Y), "validation_freq": "1"}, r"validation_freq: .*received '1'"),
        ({"validation_split": "a"}, r"validation_split: .*received 'a'"),
        ({"shuffle": "rows"}, r"shuffle: expected True, False or 'batch'; received 'rows'"),
        ({"class_weight": [1, 2]}, r"class_weight: expected a dict .*received \[1, 2\]"),
        ({"callbacks": [1]}, r"callbacks: expected objects of class Callback; received 1"),
        ({"callbacks": keras.callbacks.History}, r"callbacks: expected objects .*received <class"),
    ],
)
def test_arguments_are_named_with_what_came(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model().fit(X, Y, **{"verbose": 0, **arguments})


@pytest.mark.parametrize(
    ("frequency", "count"), [(1, 4), (2, 2), (np.int64(2), 2), ([1, 3], 2), ({2}, 1)]
)
def test_validation_is_as_frequent_as_asked(frequency: Any, count: int) -> None:
    history = model().fit(
        X, Y, epochs=4, validation_data=(X, Y), validation_freq=frequency, verbose=0
    )
    assert len(history.history["val_loss"]) == count


def test_nothing_was_trained_where_arguments_are_refused() -> None:
    made = model()
    before = made.get_weights()
    with pytest.raises(ConvcError):
        made.fit(X, Y, validation_data=(X, Y), validation_freq=0, verbose=0)
    for one, other in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ModelCheckpoint", "x.keras"), ("TensorBoard", "logs"), ("CSVLogger", "x.csv"), ("BackupAndRestore", "state")],
)  # fmt: skip
def test_files_that_callbacks_cannot_write_are_named(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "file").write_text("no folder")
    callback = getattr(keras.callbacks, kind)(tmp_path / "file" / name)
    with pytest.raises(OutputError, match=f"can't write .*{name}"):
        model().fit(X, Y, callbacks=[callback], verbose=0)


def classifier(loss: Any = "sparse_categorical_crossentropy") -> Any:
    made = keras.Sequential(
        [keras.Input((X.shape[1],)), keras.layers.Dense(3, activation="softmax")]
    )
    made.compile("sgd", loss)
    return made


@pytest.mark.parametrize("wrong", [3, -1])
def test_labels_that_are_no_classes_are_refused(wrong: int) -> None:
    labels = np.zeros(len(X), np.int64)
    labels[1] = wrong
    for method in ("fit", "evaluate"):
        with pytest.raises(DataError, match=f"from 0 to 2, for 3 classes; received {wrong}"):
            getattr(classifier(), method)(X, labels, verbose=0)


@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_labels_between_classes_are_not_cut_off(wrong: float) -> None:
    labels = np.zeros(len(X), np.float32)
    labels[1] = wrong
    with pytest.raises(DataError, match=f"expected whole numbers, of classes; received {wrong}"):
        classifier().fit(X, labels, verbose=0)


def test_two_classes_of_one_output_are_told_their_loss() -> None:
    made = keras.Sequential([keras.Input((X.shape[1],)), keras.layers.Dense(1, "sigmoid")])
    made.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(DataError, match=r"for 1 classes; received 1: .* needs binary_crossentropy"):
        made.fit(X, np.arange(len(X)) % 2, verbose=0)


def test_a_label_that_does_not_count_is_no_class() -> None:
    labels = np.zeros(len(X), np.int64)
    labels[1] = 255
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    assert np.isfinite(classifier(loss).fit(X, labels, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "mape"])
def test_targets_are_not_spread_over_predictions(loss: str) -> None:
    with pytest.raises(ModelError, match="targets of the predictions' shape"):
        classifier(loss).fit(X, np.zeros((len(X), 7), np.float32), verbose=0)


@pytest.mark.parametrize("loss", ["mse", "poisson", "hinge", "binary_crossentropy"])
@pytest.mark.parametrize("columns", [(), (1,), (2,)])
def test_labels_of_another_form_than_the_outputs_are_refused(
    loss: str, columns: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError, match=r"targets of the predictions' shape \(None, 3\)"):
        classifier(loss).fit(X, np.ones((len(X), *columns), np.float32), verbose=0)


def test_binary_labels_may_be_flat_but_not_two_for_one_output() -> None:
    model = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    assert np.isfinite(model.fit(X, np.ones(len(X)), verbose=0).history["loss"]).all()
    with pytest.raises(ModelError, match="targets of the predictions' shape"):
        model.fit(X, np.ones((len(X), 2)), verbose=0)
