"""Policies of dtypes, nested structures and the other small modules of Keras 3."""

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import layers


@pytest.fixture(autouse=True)
def afterwards() -> object:
    yield
    keras.backend.set_policy(None)


def test_a_mixed_policy_is_kept_and_computes_in_float32() -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    layer = layers.Dense(3)
    assert (layer.dtype_policy.name, layer.compute_dtype) == ("mixed_float16", "float32")
    assert layer.get_config()["dtype"] == "mixed_float16"
    model = keras.Sequential([keras.Input((2,)), layer, layers.Softmax(dtype="float32")])
    assert model.predict(np.ones((1, 2)), verbose=0).dtype == np.float32
    keras.config.set_dtype_policy("float64")
    assert layers.Dense(1).variable_dtype == "float64"
    assert keras.config.dtype_policy().name == "float64"
    with pytest.raises(ModelError, match="mixed_bfloat16"):
        keras.DTypePolicy("mixed")


def test_trees() -> None:
    nested = {"b": [1, (2,)], "a": 3}
    assert keras.tree.flatten(nested) == [3, 1, 2]
    doubled = keras.tree.map_structure(lambda v: 2 * v, nested)
    assert doubled == {"b": [2, (4,)], "a": 6}
    assert keras.tree.pack_sequence_as(nested, [6, 2, 4]) == doubled
    with pytest.raises(ValueError, match="differ"):
        keras.tree.assert_same_structure(nested, {"b": 1, "a": 3})


def test_input_specs_hold_shapes() -> None:
    assert layers.InputSpec(shape=(None, 3)).ndim == 2
    assert keras.version() == keras.__version__
