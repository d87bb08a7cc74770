"""Structured data through `keras.utils.FeatureSpace`; the numbers are those of Keras 3.15 with TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError, ModelError, UsageError
from convc.keras import layers
from convc.keras.utils import FeatureSpace
from convc.keras.utils.pipelines import Dataset

DATA: dict[str, Any] = {
    "age": [float(k * k % 97) for k in range(40)],
    "slope": [k % 3 + 1 for k in range(40)],
    "thal": [["fixed", "normal", "reversible"][k * k % 3] for k in range(40)],
}
BINS = [16.0, 44.0, 66.0]
MANY = [22.000001907, 48.000003815, 73.000007629]
THAL = [2, 1, 1, 2, 1, 1]
THAL_SLOPE = [1, 5, 1, 1, 5, 1, 1, 5]
SLOPE_AGE = [8, 9, 1, 8, 4, 9, 3, 11]
SLOPE = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def numbers() -> FeatureSpace:
    return FeatureSpace(
        features={
            "age": FeatureSpace.float_discretized(num_bins=4),
            "slope": FeatureSpace.integer_categorical(num_oov_indices=0),
            "thal": FeatureSpace.string_categorical(output_mode="int"),
        },
        crosses=[
            FeatureSpace.cross(("thal", "slope"), 8, output_mode="int"),
            FeatureSpace.cross(("slope", "age"), 16, output_mode="int"),
        ],
        output_mode="dict",
    )


def vectors() -> FeatureSpace:
    return FeatureSpace(
        features={
            "age": "float_normalized",
            "slope": "integer_hashed",
            "thal": "string_categorical",
            "rest": FeatureSpace.float_rescaled(scale=0.5, offset=1.0),
        },
        crosses=[("thal", "slope")],
        crossing_dim=8,
        hashing_dim=5,
    )


def test_bins_places_and_crosses_are_those_of_keras() -> None:
    space = numbers()
    space.adapt(Dataset.from_tensor_slices(DATA))
    bins = space.preprocessors["age"].bin_boundaries
    np.testing.assert_allclose(bins, BINS, 1e-6)
    found = {n: np.asarray(v) for n, v in space(DATA).items()}
    assert found["thal"][:6, 0].tolist() == THAL
    assert found["thal_X_slope"][:8, 0].tolist() == THAL_SLOPE
    assert found["slope_X_age"][:8, 0].tolist() == SLOPE_AGE
    assert found["slope"][:3].tolist() == SLOPE


def test_bins_of_many_values_are_those_of_keras() -> None:
    layer = layers.Discretization(num_bins=4, epsilon=0.05)
    layer.adapt(np.array([float(k * k % 97) for k in range(400)]))
    found: Any = layer.bin_boundaries
    np.testing.assert_allclose(found, MANY, 1e-6)


def test_features_are_put_together_by_name() -> None:
    space = vectors()
    data = {**DATA, "rest": np.arange(40.0)}
    space.adapt(data)
    found = np.asarray(space(data))
    age = np.asarray(DATA["age"])
    assert found.shape == (40, 1 + 1 + 5 + 3 + 8)
    np.testing.assert_allclose(found[:, 0], (age - age.mean()) / age.std(), 1e-5, 1e-6)
    np.testing.assert_allclose(found[:, 1], np.arange(40) / 2 + 1)
    np.testing.assert_array_equal(found[:, 2:].sum(1), np.full(40, 3))  # three rows with a one each
    single = space({n: v[3] for n, v in data.items()})
    np.testing.assert_allclose(single, found[3], 1e-6)


def test_a_model_made_of_encoded_features_trains_on_columns_or_on_encoded_data() -> None:
    space = vectors()
    data = {**DATA, "rest": np.arange(40.0)}
    labels = np.asarray([w == "fixed" for w in DATA["thal"]], np.float32)
    space.adapt(data)
    encoded = space.get_encoded_features()
    y = layers.Dense(1, activation="sigmoid")(encoded)
    training = keras.Model(encoded, y)
    training.compile(keras.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    rows = Dataset.from_tensor_slices((data, labels)).batch(10)
    ready = rows.map(lambda x, y: (space(x), y))
    history = training.fit(ready, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    inference = keras.Model(space.get_inputs(), y)
    columns = {n: np.asarray(v)[:, None] for n, v in data.items()}
    np.testing.assert_allclose(
        inference.predict(columns, verbose=0), training.predict(space(data), verbose=0), 1e-5, 1e-6
    )


def test_crosses_of_bins_within_a_model_are_those_on_data() -> None:
    space = numbers()
    space.adapt(DATA)
    model = keras.Model(space.get_inputs(), space.get_encoded_features())
    columns = {n: np.asarray(v) for n, v in DATA.items()}
    for name, array in model.predict(columns, verbose=0).items():
        np.testing.assert_array_equal(array, np.asarray(space(DATA)[name]))


def test_files_keep_what_was_learned(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    space = vectors()
    data = {**DATA, "rest": np.arange(40.0)}
    space.adapt(data)
    space.save(tmp_path / "space.keras")
    again: Any = keras.models.load_model(tmp_path / "space.keras")
    np.testing.assert_array_equal(np.asarray(again(data)), np.asarray(space(data)))


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match=r"feature 'a': expected one of .*did you mean 'float'"):
        FeatureSpace({"a": "flaot"})
    with pytest.raises(UsageError, match="names 'b', which is none of the features a"):
        FeatureSpace({"a": "float"}, crosses=[("a", "b")])
    space = vectors()
    with pytest.raises(ModelError, match=r"call adapt.* first: age, thal learn from data"):
        space.get_encoded_features()
    with pytest.raises(UsageError, match="feature 'thal' isn't in the data, which have age"):
        space.adapt({"age": [1.0]})
    with pytest.raises(UsageError, match="take labels off"):
        space.adapt(Dataset.from_tensor_slices((DATA, np.zeros(40))))
    space = FeatureSpace({"a": "float", "b": "float"})
    with pytest.raises(DataError, match="'b' is missing"):
        space({"a": [1.0]})
    space = FeatureSpace({"a": FeatureSpace.integer_hashed(4, output_mode="int")})
    with pytest.raises(ModelError, match=r"'a' is int64: it can't be put beside floats"):
        space({"a": [1]})
