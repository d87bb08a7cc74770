"""Output shapes and parameter counts of every layer, worked out by hand from Keras' documentation."""

import copy
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.keras import layers

IMAGE = (11, 9, 6)

ROWS = [
    (lambda: layers.Conv2D(4, 3), IMAGE, (9, 7, 4), 3 * 3 * 6 * 4 + 4),
    (lambda: layers.Conv2D(4, (3, 2), strides=2), IMAGE, (5, 4, 4), 3 * 2 * 6 * 4 + 4),
    (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), IMAGE, (6, 5, 4), 220),
    (lambda: layers.Conv2D(4, 3, strides=(3, 1), padding="SAME"), IMAGE, (4, 9, 4), 220),
    (lambda: layers.Conv2D(4, 3, dilation_rate=2), IMAGE, (7, 5, 4), 220),
    (
        lambda: layers.Conv2D(4, 3, dilation_rate=3, padding="same", use_bias=False),
        IMAGE,
        (11, 9, 4),
        216,
    ),
    (lambda: layers.Conv2D(4, 3, groups=2), IMAGE, (9, 7, 4), 3 * 3 * 3 * 4 + 4),
    (lambda: layers.DepthwiseConv2D(3), IMAGE, (9, 7, 6), 3 * 3 * 6 + 6),
    (
        lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same"),
        IMAGE,
        (11, 9, 12),
        72 + 12,
    ),
    (lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2), IMAGE, (9, 7, 5), 108 + 60 + 5),
    (
        lambda: layers.SeparableConv2D(5, 3, strides=2, padding="same", use_bias=False),
        IMAGE,
        (6, 5, 5),
        54 + 30,
    ),
    (lambda: layers.Conv2DTranspose(4, 3), IMAGE, (13, 11, 4), 3 * 3 * 4 * 6 + 4),
    (lambda: layers.Conv2DTranspose(4, 3, strides=2), IMAGE, (23, 19, 4), 220),
    (lambda: layers.Conv2DTranspose(4, 2, strides=3), IMAGE, (33, 27, 4), 4 * 24 + 4),
    (lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"), IMAGE, (22, 18, 4), 220),
    (lambda: layers.Conv2DTranspose(4, 3, 2, "same", output_padding=0), IMAGE, (21, 17, 4), 220),
    (lambda: layers.Conv2DTranspose(4, 3, 2, "same", output_padding=1), IMAGE, (22, 18, 4), 220),
    (lambda: layers.Conv2DTranspose(4, 3, 2, "valid", output_padding=1), IMAGE, (24, 20, 4), 220),
    (lambda: layers.Dense(7), (5,), (7,), 42),
    (lambda: layers.Dense(7, use_bias=False), (3, 4, 5), (3, 4, 7), 35),
    (lambda: layers.MaxPooling2D(), IMAGE, (5, 4, 6), 0),
    (lambda: layers.MaxPooling2D(3, 2, "same"), IMAGE, (6, 5, 6), 0),
    (lambda: layers.AveragePooling2D((2, 3), padding="same"), IMAGE, (6, 3, 6), 0),
    (lambda: layers.GlobalMaxPooling2D(), IMAGE, (6,), 0),
    (lambda: layers.GlobalAveragePooling2D(keepdims=True), IMAGE, (1, 1, 6), 0),
    (lambda: layers.BatchNormalization(), IMAGE, IMAGE, 24),
    (lambda: layers.BatchNormalization(axis=1, scale=False), IMAGE, IMAGE, 33),
    (lambda: layers.BatchNormalization(center=False), (5,), (5,), 15),
    (lambda: layers.LayerNormalization(), IMAGE, IMAGE, 12),
    (lambda: layers.LayerNormalization(axis=(2, 3), center=False), IMAGE, IMAGE, 54),
    (lambda: layers.Normalization(), IMAGE, IMAGE, 13),
    (lambda: layers.Normalization(mean=1.0, variance=2.0), IMAGE, IMAGE, 0),
    (lambda: layers.UnitNormalization(), IMAGE, IMAGE, 0),
    (lambda: layers.Rescaling(1 / 255), IMAGE, IMAGE, 0),
    (lambda: layers.Dropout(0.5), IMAGE, IMAGE, 0),
    (lambda: layers.SpatialDropout2D(0.5), IMAGE, IMAGE, 0),
    (lambda: layers.GaussianNoise(0.5), IMAGE, IMAGE, 0),
    (lambda: layers.GaussianDropout(0.5), IMAGE, IMAGE, 0),
    (lambda: layers.AlphaDropout(0.5), IMAGE, IMAGE, 0),
    (lambda: layers.Masking(), (4, 3), (4, 3), 0),
    (lambda: layers.Flatten(), IMAGE, (594,), 0),
    (lambda: layers.Reshape((-1, 6)), IMAGE, (99, 6), 0),
    (lambda: layers.Reshape((594,)), IMAGE, (594,), 0),
    (lambda: layers.Permute((3, 1, 2)), IMAGE, (6, 11, 9), 0),
    (lambda: layers.RepeatVector(3), (5,), (3, 5), 0),
    (lambda: layers.Activation("relu"), IMAGE, IMAGE, 0),
    (lambda: layers.LeakyReLU(), IMAGE, IMAGE, 0),
    (lambda: layers.ELU(), IMAGE, IMAGE, 0),
    (lambda: layers.ReLU(6.0), IMAGE, IMAGE, 0),
    (lambda: layers.Softmax(), IMAGE, IMAGE, 0),
    (lambda: layers.PReLU(), IMAGE, IMAGE, 594),
    (lambda: layers.PReLU(shared_axes=[1, 2]), IMAGE, IMAGE, 6),
    (lambda: layers.ZeroPadding2D(), IMAGE, (13, 11, 6), 0),
    (lambda: layers.ZeroPadding2D((1, 2)), IMAGE, (13, 13, 6), 0),
    (lambda: layers.ZeroPadding2D(((0, 1), (2, 3))), IMAGE, (12, 14, 6), 0),
    (lambda: layers.Cropping2D(((1, 2), (3, 0))), IMAGE, (8, 6, 6), 0),
    (lambda: layers.UpSampling2D(), IMAGE, (22, 18, 6), 0),
    (lambda: layers.UpSampling2D((1, 3), interpolation="bilinear"), IMAGE, (11, 27, 6), 0),
    (lambda: layers.Lambda(lambda t: t[:, ::2] * 2), IMAGE, (6, 9, 6), 0),
]


@pytest.mark.parametrize(("make", "given", "expected", "parameters"), ROWS)
def test_layer_has_keras_shape_and_parameter_count(
    make: Any, given: Any, expected: Any, parameters: int
) -> None:
    layer = make()
    assert layer(keras.Input(given)).shape == (None, *expected)
    assert layer.count_params() == parameters
    assert make().compute_output_shape((None, *given)) == (None, *expected)
    assert layer(keras.Input(given, batch_size=3)).shape == (3, *expected)


CHANNELS_FIRST = [
    (
        lambda: layers.Conv2D(4, 3, strides=2, padding="same", data_format="channels_first"),
        (4, 6, 5),
        220,
    ),
    (lambda: layers.DepthwiseConv2D(3, data_format="channels_first"), (6, 9, 7), 60),
    (lambda: layers.SeparableConv2D(5, 3, data_format="channels_first"), (5, 9, 7), 89),
    (
        lambda: layers.Conv2DTranspose(4, 3, strides=2, data_format="channels_first"),
        (4, 23, 19),
        220,
    ),
    (lambda: layers.MaxPooling2D(data_format="channels_first"), (6, 5, 4), 0),
    (lambda: layers.GlobalAveragePooling2D(data_format="channels_first"), (6,), 0),
    (lambda: layers.GlobalMaxPooling2D("channels_first", keepdims=True), (6, 1, 1), 0),
    (lambda: layers.ZeroPadding2D(1, data_format="channels_first"), (6, 13, 11), 0),
    (lambda: layers.Cropping2D(1, data_format="channels_first"), (6, 9, 7), 0),
    (lambda: layers.UpSampling2D(2, data_format="channels_first"), (6, 22, 18), 0),
    (lambda: layers.BatchNormalization(1), (6, 11, 9), 24),
]


@pytest.mark.parametrize(("make", "expected", "parameters"), CHANNELS_FIRST)
def test_channels_first_layer_has_keras_shape(make: Any, expected: Any, parameters: int) -> None:
    layer = make()
    assert layer(keras.Input((6, 11, 9))).shape == (None, *expected)
    assert layer.count_params() == parameters


def test_default_data_format_follows_the_backend_setting() -> None:
    keras.backend.set_image_data_format("channels_first")
    assert layers.Conv2D(4, 3)(keras.Input((6, 11, 9))).shape == (None, 4, 9, 7)


def test_merging_layers_broadcast_and_concatenate() -> None:
    a, b = keras.Input((4, 5, 6)), keras.Input((1, 1, 6))
    for layer in (
        layers.Add(),
        layers.Subtract(),
        layers.Multiply(),
        layers.Average(),
        layers.Maximum(),
        layers.Minimum(),
    ):
        assert layer([a, b]).shape == (None, 4, 5, 6)
    assert layers.Concatenate(axis=1)([a, keras.Input((2, 5, 6))]).shape == (None, 6, 5, 6)
    assert layers.Dot(axes=(2, 1))([keras.Input((3, 4)), keras.Input((4, 5))]).shape == (None, 3, 5)
    assert layers.Dot(axes=1)([keras.Input((4,)), keras.Input((4,))]).shape == (None, 1)


def test_weights_keep_keras_shapes_and_names() -> None:
    x = keras.Input((8, 8, 6))
    rows = [
        (layers.Conv2D(4, (3, 2), groups=2), {"kernel": (3, 2, 3, 4), "bias": (4,)}),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), {"kernel": (3, 3, 6, 2), "bias": (12,)}),
        (layers.Conv2DTranspose(4, (3, 2)), {"kernel": (3, 2, 4, 6), "bias": (4,)}),
        (layers.Dense(4), {"kernel": (6, 4), "bias": (4,)}),
        (
            layers.BatchNormalization(),
            {"gamma": (6,), "beta": (6,), "moving_mean": (6,), "moving_variance": (6,)},
        ),
    ]
    for layer, expected in rows:
        layer(x)
        assert {w.name: w.shape for w in layer.weights} == expected
        assert all(w.path == f"{layer.name}/{w.name}" for w in layer.weights)


def test_names_count_up_per_class_and_start_again_with_the_session() -> None:
    names = [
        layer.name
        for layer in (
            layers.Conv2D(1, 1),
            layers.Conv2D(1, 1),
            layers.MaxPooling2D(),
            layers.PReLU(),
            layers.ReLU(),
        )
    ]
    assert names == ["conv2d", "conv2d_1", "max_pooling2d", "p_re_lu", "re_lu"]
    keras.backend.clear_session()
    assert layers.Conv2D(1, 1).name == "conv2d"


def test_config_has_the_arguments_and_makes_the_layer_again() -> None:
    layer = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")
    config = layer.get_config()
    assert config["filters"] == 4
    again = layers.Conv2D.from_config(config)
    assert (again.name, again.padding, again.kernel_size) == ("first", "same", (3, 3))


def test_kernel_arguments_are_kept() -> None:
    layer = layers.Conv2D(
        4,
        3,
        kernel_regularizer=keras.regularizers.L2(0.1),
        bias_constraint="non_neg",
        activity_regularizer="l1",
    )
    assert layer.kernel_regularizer.get_config() == {"l2": 0.1}
    assert isinstance(layer.bias_constraint, keras.constraints.NonNeg)
    assert isinstance(layer.activity_regularizer, keras.regularizers.L1)


def test_a_layer_of_another_dtype_casts_what_it_is_given() -> None:
    x, ones = keras.Input((3,)), np.full((2, 3), 0.1, np.float32)
    first = layers.Dense(2, kernel_initializer="ones")(x)
    model = keras.Model(x, layers.Dense(1, kernel_initializer="ones", dtype="float64")(first))
    found = model.predict(ones, verbose=0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.full((2, 1), 0.6), 1e-6)


def test_repeated_calls_share_weights() -> None:
    dense = layers.Dense(3)
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.add([dense(a), dense(b)]))
    assert model.count_params() == 15
    weights = model.graphs()["predict"].weights
    assert sorted(weights) == ["dense/bias", "dense/kernel"]


def test_layers_can_be_copied() -> None:
    layer = layers.Dense(3)
    layer(keras.Input((4,)))
    twin = copy.deepcopy(layer)
    twin.set_weights([w + 1 for w in layer.get_weights()])
    assert twin.units == 3
    assert (twin.get_weights()[0] != layer.get_weights()[0]).all()
