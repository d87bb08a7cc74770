"""Policies of dtypes, nested structures and the other small modules of Keras 3."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import dtype_policies, layers


@pytest.fixture(autouse=True)
def afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dtype_policies, "_told", {"mixed_float16", "mixed_bfloat16"})
    yield
    keras.backend.set_policy(None)
    keras.config.set_floatx("float32")


def dense(inputs: Any = 2, **settings: Any) -> Any:
    return keras.Sequential([keras.Input((inputs,)), layers.Dense(3), layers.Dense(2, **settings)])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_layers_of_a_mixed_policy_say_what_they_say_in_keras(half: str) -> None:
    keras.mixed_precision.set_global_policy(f"mixed_{half}")
    layer: Any = layers.Dense(3)
    assert (layer.dtype_policy.name, layer.compute_dtype) == (f"mixed_{half}", half)
    assert layer.variable_dtype == layer.dtype.value == "float32"
    assert layer.get_config()["dtype"] == f"mixed_{half}"
    assert {w.dtype for w in dense().weights} == {"float32"}


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_models_of_a_mixed_policy_predict_its_dtype(half: str) -> None:
    """As Keras' do; a last layer of float32 keeps its numbers whole."""
    keras.mixed_precision.set_global_policy(f"mixed_{half}")
    x = np.ones((4, 2), np.float32)
    assert dense().predict(x, verbose=0).dtype == half
    assert dense(dtype="float32").predict(x, verbose=0).dtype == np.float32
    start = keras.Input((2,))
    inner = layers.Dense(3)(start)
    model = keras.Model(start, [keras.ops.softmax(inner), dense(3, dtype="float32")(inner)])
    found = model.predict(x, verbose=0)
    assert [a.dtype for a in found] == [half, np.float32]
    trained = dense()
    trained.compile(keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1)), "mse")
    loss = trained.fit(x, np.full((4, 2), 1e-6, np.float32), verbose=0).history["loss"][0]
    assert loss == np.float32(loss)
    assert trained.predict_on_batch(x).dtype == half


def test_a_mixed_policy_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype_policies, "_told", set())
    with pytest.warns(UserWarning, match="'mixed_float16': layers compute in float32"):
        layers.Dense(3, dtype="mixed_float16")
    layers.Dense(3, dtype="mixed_float16")


def test_policies_are_set_and_refused() -> None:
    keras.config.set_dtype_policy("float64")
    layer: Any = layers.Dense(1)
    assert layer.variable_dtype == layer.compute_dtype == "float64"
    assert keras.config.dtype_policy().name == "float64"
    with pytest.raises(ModelError, match="mixed_bfloat16"):
        keras.DTypePolicy("mixed")


def test_a_loss_scale_optimizer_is_the_optimizer_itself() -> None:
    inner = keras.optimizers.Adam()
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024)
    assert scaled is inner is scaled.inner_optimizer
    assert scaled.scale_loss(3.0) == scaled.get_scaled_loss(3.0) == 3.0
    assert scaled.get_unscaled_gradients([1.0]) == [1.0]
    config = {"inner_optimizer": keras.optimizers.serialize(inner), "initial_scale": 32768.0}
    found = keras.optimizers.deserialize({"class_name": "LossScaleOptimizer", "config": config})
    assert isinstance(found, keras.optimizers.Adam)
    with pytest.raises(ModelError, match="inner_optimizer: expected an optimizer"):
        keras.optimizers.LossScaleOptimizer("adam")


def test_floats_of_python_are_floatx_and_arrays_keep_theirs() -> None:
    made = keras.Variable([1 / 3]), keras.Variable(np.ones(2)), keras.Variable(1.0, dtype="float64")
    assert [v.dtype for v in made] == ["float32", "float64", "float64"]
    made[2].assign(1 / 3)
    assert made[2].numpy() == 1 / 3
    keras.config.set_floatx("float64")
    values = [
        keras.Variable([1 / 3]), keras.Variable(keras.initializers.Zeros(), (2,)), keras.ops.zeros(2),
        keras.ops.convert_to_tensor([1 / 3]), keras.ops.mean(np.array([1, 2])), keras.ops.eye(2), keras.Input((2,)),
        keras.ops.convert_to_tensor(np.ones(2, np.int32)) * 0.5,
    ]  # fmt: skip
    assert [v.dtype for v in values] == ["float64"] * len(values)
    assert float(values[3][0]) == 1 / 3
    model = dense()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 2)), verbose=0)
    assert {w.dtype for w in model.weights} == {"float64"}
    assert model.predict(np.ones((4, 2)), verbose=0).dtype == np.float64


def test_a_product_has_the_wider_dtype() -> None:
    class Wide(layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight((shape[-1], 2), dtype="float64", initializer="ones", name="w")

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(x, self.w)

    found = keras.Sequential([keras.Input((3,)), Wide()]).predict(np.ones((1, 3)), verbose=0)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[3, 3]])


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
