"""What a training can't do says so, with what to do instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, DataError, ModelError, UsageError
from convc.keras import layers

X = np.zeros((6, 4), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("loss", "targets", "hint"),
    [
        ("categorical_crossentropy", LABELS, "need sparse_categorical_crossentropy or"),
        ("sparse_categorical_crossentropy", np.eye(3)[LABELS], "need categorical_crossentropy"),
        (
            "binary_crossentropy",
            LABELS,
            r"shape \(None, 3\); received shape \(None,.*class numbers",
        ),
    ],
)
def test_labels_of_another_form_are_told_the_loss_that_takes_them(
    loss: str, targets: Any, hint: str
) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", loss)
    with pytest.raises(ModelError, match=hint):
        model.fit(X, targets, verbose=0)


def test_gradients_in_another_order_are_refused_and_change_nothing() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
    optimizer = keras.optimizers.Adam()
    before = model.get_weights()
    gradients = [np.ones(w.shape, np.float32) for w in before][::-1]
    expected = r"kernel has shape \(4, 3\); received a gradient of shape \(1,\)"
    with pytest.raises(ModelError, match=expected):
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert int(optimizer.iterations) == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (lambda g, v: g, r"expected pairs \(gradient, variable\), as zip makes them"),
        (lambda g, v: zip(v, g, strict=True), "expected a variable as the second of each pair"),
    ],
)
def test_what_is_no_pair_of_gradient_and_variable_is_refused(pairs: Any, message: str) -> None:
    variables = [keras.Variable(np.ones((3, 2), np.float32))]
    gradients = [keras.ops.ones((3, 2))]
    with pytest.raises(ModelError, match=message):
        keras.optimizers.SGD().apply_gradients(pairs(gradients, variables))


def fitted(**arguments: Any) -> Any:
    model = keras.Sequential([keras.Input((4,), name="pixels"), layers.Dense(1)])
    model.compile("sgd", "mse")
    given: dict[str, Any] = {"x": X, "y": np.zeros(6), "verbose": 0}
    return model.fit(**given | arguments)


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (UsageError, {"epoch": 2}, r"fit has no argument 'epoch' \(did you mean 'epochs'\?\)"),
        (DataError, {"x": {"image": X}}, "'pixels' is missing, received 'image'"),
        (
            UsageError,
            {
                "x": keras.utils.timeseries_dataset_from_array(X, np.zeros(6), 1),
                "y": None,
                "validation_split": 0.2,
            },
            "give validation_data instead",
        ),
    ],
)
def test_arguments_of_fit_are_refused_with_what_came(
    error: type[ConvcError], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(error, match=message):
        fitted(**arguments)


def test_an_optimizer_names_the_argument_that_was_meant() -> None:
    with pytest.raises(ModelError, match="did you mean 'learning_rate'"):
        keras.optimizers.Adam(learnin_rate=0.1)


def test_text_without_a_vocabulary_is_not_all_unknown() -> None:
    layer = layers.TextVectorization()
    with pytest.raises(ModelError, match="call adapt"):
        layer(np.array(["a b"]))
    text = keras.Input((1,), dtype="string")
    model = keras.Model(text, layer(text))
    layer.adapt(["a b"])
    assert np.asarray(model.predict(np.array([["b a"]]), verbose=0)).tolist() in (
        [[2, 3]],
        [[3, 2]],
    )


def test_a_saved_metric_of_ones_own_says_where_its_class_goes() -> None:
    with pytest.raises(ModelError, match=r"goes in custom_objects=\{'Mine': …\}"):
        keras.metrics.get({"class_name": "Mine", "config": {}})
    with pytest.raises(ModelError, match="unknown metric 'Mine'") as raised:
        keras.metrics.get("Mine")
    assert "custom_objects" not in str(raised.value)


def test_a_softmax_over_one_output_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"softmax of rows of one element, \(None, 1\)"):
        keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="softmax")])
