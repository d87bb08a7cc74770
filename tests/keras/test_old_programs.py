"""What programs of Keras 1 and 2 import and call under other names than today's."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, DataError, ModelError
from convc.keras import layers, tensorflow_names
from convc.keras.preprocessing.sequence import TimeseriesGenerator, make_sampling_table, skipgrams
from convc.keras.preprocessing.text import hashing_trick, one_hot
from convc.keras.wrappers.scikit_learn import KerasClassifier, KerasRegressor


@pytest.mark.parametrize(
    ("module", "name", "today"),
    [
        ("layers.embeddings", "Embedding", layers.Embedding),
        ("layers.convolutional", "Conv3D", layers.Conv3D),
        ("layers.pooling", "GlobalMaxPooling3D", layers.GlobalMaxPooling3D),
        ("layers.noise", "AlphaDropout", layers.AlphaDropout),
        ("layers.experimental.preprocessing", "Rescaling", layers.Rescaling),
        ("layers.local", "LocallyConnected2D", layers.LocallyConnected2D),
        ("layers.cudnn_recurrent", "CuDNNGRU", layers.CuDNNGRU),
        ("engine.topology", "Layer", layers.Layer),
        ("engine.topology", "InputSpec", layers.InputSpec),
        ("engine.training", "Model", keras.Model),
        ("objectives", "categorical_crossentropy", keras.losses.categorical_crossentropy),
        ("utils.generic_utils", "Progbar", keras.utils.Progbar),
        ("utils.vis_utils", "plot_model", keras.utils.plot_model),
        ("callbacks.callbacks", "EarlyStopping", keras.callbacks.EarlyStopping),
        ("backend.tensorflow_backend", "floatx", keras.backend.floatx),
    ],
)
def test_modules_at_other_paths(module: str, name: str, today: Any) -> None:
    assert getattr(importlib.import_module(f"convc.keras.{module}"), name) is today


def test_modules_at_other_paths_name_what_they_lack() -> None:
    with pytest.raises(ConvcError, match=r"convc\.keras\.layers\.noise has no 'GausianNoise'"):
        keras.layers.noise.GausianNoise  # noqa: B018


def test_optimizers_by_names_in_lower_case() -> None:
    assert isinstance(keras.optimizers.rmsprop(lr=1e-4, decay=1e-6), keras.optimizers.RMSprop)
    assert isinstance(keras.optimizers.adam(), keras.optimizers.Adam)


def test_cudnn_layers_are_the_usual_ones() -> None:
    x = keras.Input((4, 3))
    assert layers.CuDNNLSTM(5, return_sequences=True)(x).shape == (None, 4, 5)
    assert layers.CuDNNGRU(5)(x).shape == (None, 5)


def test_windows_of_a_series() -> None:
    series = np.arange(20).reshape(10, 2)
    windows = TimeseriesGenerator(
        series, series[:, 0], length=4, sampling_rate=2, stride=2, batch_size=2
    )
    assert len(windows) == 2
    x, y = windows[0]
    assert x.tolist() == [[[0, 1], [4, 5]], [[4, 5], [8, 9]]]
    assert y.tolist() == [8, 12]
    assert windows[1][1].tolist() == [16]
    turned = TimeseriesGenerator(series, series[:, 0], 2, reverse=True, end_index=4)
    assert [b.tolist() for b in turned[0]] == [
        [[[2, 3], [0, 1]], [[4, 5], [2, 3]], [[6, 7], [4, 5]]],
        [4, 6, 8],
    ]
    with pytest.raises(DataError, match=r"start_index\+length=12 > end_index=9"):
        TimeseriesGenerator(series, series, length=12)
    with pytest.raises(DataError, match="received 10 rows and 3 targets"):
        TimeseriesGenerator(series, series[:3], length=2)


def test_windows_of_a_series_train() -> None:
    series = np.sin(np.arange(40, dtype=np.float32))[:, None]
    model = keras.Sequential([keras.Input((5, 1)), layers.SimpleRNN(4), layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(TimeseriesGenerator(series, series, 5, batch_size=8), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2


def test_skipgrams_pair_words_within_the_window() -> None:
    couples, labels = skipgrams([1, 2, 0, 3], 5, window_size=1, negative_samples=0, shuffle=False)
    assert couples == [[1, 2], [2, 1]]
    assert labels == [1, 1]
    couples, labels = skipgrams([1, 2, 3, 4], 50, window_size=2, categorical=True, seed=3)
    real = [c for c, label in zip(couples, labels, strict=True) if label == [0, 1]]
    assert sorted(real) == [[a, b] for a in range(1, 5) for b in range(1, 5) if 0 < abs(a - b) < 3]
    assert len(couples) == 2 * len(real)


def test_sampling_table() -> None:
    # Keras 2.19's own numbers.
    wanted = [0.00315225, 0.00315225, 0.00547597, 0.00741556, 0.00912817]
    np.testing.assert_allclose(make_sampling_table(5), wanted, rtol=2e-6)


def test_words_by_hashes() -> None:
    # Keras 2.19's own numbers.
    assert hashing_trick("The cat, the dog.", 50, "md5") == MD5
    numbers = one_hot("a b a", 10)
    assert numbers[0] == numbers[2]
    assert all(1 <= n < 10 for n in numbers)


MD5 = [43, 32, 43, 2]


def classifier(units: int = 4, outputs: int = 1) -> Any:
    last = layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, "relu"), last])
    loss = "binary_crossentropy" if outputs == 1 else "categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize("outputs", [1, 2])
def test_classifiers_know_their_classes(outputs: int) -> None:
    x = np.random.default_rng(0).standard_normal((60, 3))
    y = np.where(x[:, 0] > 0, "right", "left")
    estimator = KerasClassifier(
        classifier, units=8, outputs=outputs, epochs=60, batch_size=10, verbose=0
    )
    estimator.fit(x, y)
    assert set(estimator.predict(x).ravel()) == {"left", "right"}
    assert estimator.predict_proba(x).shape == (60, 2)
    assert estimator.score(x, y) > 0.8
    assert estimator.get_params()["units"] == 8
    assert estimator.set_params(units=5).filter_sk_params(classifier) == {
        "units": 5,
        "outputs": outputs,
    }


def test_regressors_give_numbers() -> None:
    def build() -> Any:
        model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    x = np.random.default_rng(0).standard_normal((20, 2))
    estimator = KerasRegressor(build_fn=build, epochs=2, verbose=0)
    estimator.fit(x, x[:, 0])
    assert estimator.predict(x).shape == (20,)
    assert estimator.score(x, x[:, 0]) <= 0


def test_wrappers_refuse_what_nothing_takes() -> None:
    with pytest.raises(ModelError, match="KerasClassifier: unit is not a legal parameter"):
        KerasClassifier(classifier, unit=3)


def test_strategies_of_one_device_change_nothing() -> None:
    strategy = tensorflow_names.NAMES["distribute.MirroredStrategy"]()
    assert strategy.num_replicas_in_sync == 1
    with strategy.scope():
        model = classifier()
    assert model.count_params() == 21
    assert strategy.run(lambda a, b: a + b, args=(1, 2)) == 3
    assert strategy.reduce("SUM", np.array([1.0, 2.0]), axis=0).numpy() == 3
    with pytest.raises(
        ConvcError, match=r"tf\.distribute\.TPUStrategy: convc trains on one machine"
    ):
        tensorflow_names.NAMES["distribute.TPUStrategy"]()
    with pytest.raises(ConvcError, match="expected one device; received 2"):
        tensorflow_names.NAMES["distribute.MirroredStrategy"](["a", "b"])


@pytest.mark.parametrize(
    ("part", "old", "today"),
    [
        (keras.constraints, "maxnorm", keras.constraints.MaxNorm),
        (keras.constraints, "nonneg", keras.constraints.NonNeg),
        (keras.initializers, "normal", keras.initializers.RandomNormal),
        (keras.initializers, "one", keras.initializers.Ones),
        (keras.regularizers, "l1l2", keras.regularizers.l1_l2),
        (keras.metrics, "kullback_leibler_divergence", keras.metrics.kl_divergence),
        (keras.engine, "InputSpec", layers.InputSpec),
        (keras.layers, "core", importlib.import_module("convc.keras.layers.core")),
        (
            keras.preprocessing,
            "image_dataset_from_directory",
            keras.utils.image_dataset_from_directory,
        ),
    ],
)
def test_names_of_keras_1_and_2(part: Any, old: str, today: Any) -> None:
    assert getattr(part, old) is today


def test_reductions_by_name() -> None:
    none = keras.losses.MeanSquaredError(reduction=keras.losses.Reduction.NONE)
    assert none(np.zeros((3, 2)), np.ones((3, 2))).shape == (3,)
    assert (
        keras.losses.MeanSquaredError(reduction=keras.losses.Reduction.AUTO).reduction
        == "sum_over_batch_size"
    )


def test_source_inputs() -> None:
    a, b = keras.Input((2,)), keras.Input((2,))
    c = layers.Dense(2)(layers.add([layers.Dense(2)(a), b]))
    assert keras.utils.get_source_inputs(c) == [a, b]
    assert keras.utils.get_source_inputs(layers.Dense(1)(a)) == [a]


def test_a_models_own_build_makes_layers() -> None:
    class Reconstructing(keras.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.out = layers.Dense(1)

        def build(self, input_shape: Any) -> None:
            self.again = layers.Dense(input_shape[-1])

        def call(self, x: Any, training: Any = None) -> Any:
            self.add_loss(keras.ops.mean(keras.ops.square(self.again(x) - x)))
            return self.out(x)

    model = Reconstructing()
    model.compile("sgd", "mse")
    history = model.fit(np.ones((8, 3)), np.ones(8), epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    assert len(model.trainable_weights) == 4
    assert model.predict(np.ones((2, 3)), verbose=0).shape == (2, 1)


def test_the_number_of_elements_may_depend_on_the_batch() -> None:
    class Counted(keras.metrics.Metric):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.total = self.add_weight(name="total", initializer="zeros")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.total.assign_add(keras.ops.cast(keras.ops.size(y_true), "float32"))

        def result(self) -> Any:
            return self.total

    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    model.compile("sgd", "mse", metrics=[Counted(name="elements")])
    history = model.fit(np.ones((7, 2)), np.ones((7, 3)), batch_size=4, epochs=1, verbose=0)
    assert history.history["elements"] == [21]
    x = keras.Input((4, 5))
    assert (
        keras.Model(x, x * keras.ops.cast(keras.ops.size(x), "float32"))
        .predict(np.ones((3, 4, 5)), verbose=0)
        .max()
        == 60
    )


def test_shapes_joined_of_parts() -> None:
    concat = tensorflow_names.NAMES["concat"]
    pooled = layers.Lambda(
        lambda x: keras.ops.max(
            keras.ops.reshape(x, concat([keras.ops.shape(x)[:-1], [2, 3]], 0)), -1
        )
    )
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    model = keras.Sequential([keras.Input((2, 6)), pooled])
    np.testing.assert_array_equal(model.predict(x, verbose=0), x.reshape(2, 2, 2, 3).max(-1))
    np.testing.assert_array_equal(pooled(x), x.reshape(2, 2, 2, 3).max(-1))


def test_merging_layers_stretch_one_value_for_each_sample() -> None:
    x, scale = keras.Input((4, 5, 3)), keras.Input((3,))
    model = keras.Model([x, scale], [layers.multiply([x, scale]), layers.Add()([scale, x])])
    a, b = np.random.default_rng(0).random((2, 4, 5, 3)), np.random.default_rng(1).random((2, 3))
    product, total = model.predict([a, b], verbose=0)
    np.testing.assert_allclose(product, a * b[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(total, a + b[:, None, None], rtol=1e-6)


def test_configs_hold_what_subclasses_pass_on() -> None:
    class Wide(layers.Dense):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(units, **kwargs)

    config = Wide(3, activation="tanh", use_bias=False, input_shape=(4,), name="w").get_config()
    assert (config["units"], config["activation"], config["use_bias"]) == (3, "tanh", False)
    assert "input_shape" not in config
    again = Wide.from_config(config)
    assert again.use_bias is False
    assert again(np.ones((1, 2), np.float32)).shape == (1, 3)


def test_a_layer_may_return_its_variable() -> None:
    class Total(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.total = self.add_weight(shape=(2,), initializer="zeros", trainable=False)

        def call(self, inputs: Any) -> Any:
            self.total.assign_add(keras.ops.sum(inputs, axis=0))
            return self.total

    layer = Total()
    assert layer(np.ones((2, 2), np.float32)).numpy().tolist() == [2, 2]
    assert layer(np.ones((2, 2), np.float32)).numpy().tolist() == [4, 4]


def test_a_model_within_a_layer_that_is_called_on_arrays() -> None:
    class Headed(layers.Layer):
        def __init__(self, head: Any) -> None:
            super().__init__()
            self.head, self.first = head, layers.Dense(4)

        def call(self, inputs: Any) -> Any:
            return self.head(self.first(inputs))

    start = keras.Input((4,))
    head = keras.Model(start, layers.Dense(1)(start))
    assert Headed(head)(np.ones((3, 5), np.float32)).shape == (3, 1)
