"""Models whose inputs leave sizes open: compiled for each size that comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers

RANDOM = np.random.default_rng(5)


def images(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def segmenter(rows: int | None, columns: int | None) -> Any:
    """A network with a way down, one up and a skip connection."""
    start = keras.Input((rows, columns, 3))
    skip = x = layers.Conv2D(4, 3, padding="same", activation="relu")(start)
    x = layers.BatchNormalization()(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = layers.Concatenate()([x, skip])
    return keras.Model(start, layers.Conv2D(2, 1)(x))


def test_each_size_gives_what_a_model_of_that_size_gives() -> None:
    model = segmenter(None, None)
    assert model.output_shape == (None, None, None, 2)
    for rows, columns in ((8, 8), (6, 10), (8, 8)):
        fixed = segmenter(rows, columns)
        fixed.set_weights(model.get_weights())
        x = images(3, rows, columns, 3)
        found, wanted = (m.predict(x, verbose=0) for m in (model, fixed))
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)


def test_training_goes_from_size_to_size() -> None:
    model = segmenter(None, None)
    fixed = [segmenter(8, 8), segmenter(6, 10)]
    weights = model.get_weights()
    model.compile("sgd", "mse")
    for k, (rows, columns) in enumerate(((8, 8), (6, 10), (8, 8))):
        x, y = images(2, rows, columns, 3), images(2, rows, columns, 2)
        one = fixed[k % 2]
        one.set_weights(weights)
        one.compile("sgd", "mse")
        assert model.train_on_batch(x, y) == pytest.approx(one.train_on_batch(x, y), rel=1e-6)
        weights = one.get_weights()
        for mine, wanted in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(mine, wanted, 1e-5, 1e-6)


def test_summary_shows_open_sizes_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential(
        [keras.Input((None, 4)), layers.Conv1D(8, 3), layers.GlobalMaxPooling1D()]
    )
    model.summary()
    assert "(None, None, 8)" in capsys.readouterr().out


def test_open_size_is_refused_where_a_weight_needs_it() -> None:
    start = keras.Input((None, 4))
    with pytest.raises(ConvcError, match=r"features"):
        layers.Dense(3)(layers.Flatten()(start))


def test_open_sizes_survive_files(tmp_path: Any) -> None:
    model = segmenter(None, None)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = images(2, 8, 6, 3)
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def test_shape_within_a_layer_can_be_computed_with() -> None:
    class Folded(layers.Layer):
        def call(self, inputs: Any) -> Any:
            batch, steps = keras.ops.shape(inputs)[0], keras.ops.shape(inputs)[1]
            return keras.ops.reshape(inputs, (batch, steps // 2, 2 * inputs.shape[2]))

    start = keras.Input((None, 3))
    model = keras.Model(start, Folded()(start))
    x = images(2, 6, 3)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x.reshape(2, 3, 6))
