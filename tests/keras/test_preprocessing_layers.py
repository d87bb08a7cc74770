"""Layers on images: sizes, random changes in training and on arrays, nothing at inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.keras import layers
from convc.ops.augment import Drawn
from convc.passes.gradient import with_outputs
from convc.passes.pipelines import pipeline_for
from convc.passes.training_mode import SEED_INPUT, training_mode

X = np.random.default_rng(3).uniform(0, 255, (6, 8, 9, 3)).astype(np.float32)

RANDOM: list[Any] = [
    lambda **k: layers.RandomFlip(**k),
    lambda **k: layers.RandomRotation(0.2, **k),
    lambda **k: layers.RandomTranslation(0.3, (-0.1, 0.4), fill_mode="wrap", **k),
    lambda **k: layers.RandomZoom(0.4, fill_mode="constant", fill_value=5.0, **k),
    lambda **k: layers.RandomZoom(
        (0.1, 0.4), (-0.3, 0.0), fill_mode="nearest", interpolation="nearest", **k
    ),
    lambda **k: layers.RandomContrast(0.5, **k),
    lambda **k: layers.RandomBrightness(0.3, **k),
]
WRONG: Any = "x"
names = ["flip", "rotation", "translation", "zoom", "zoom-two", "contrast", "brightness"]
each_random = pytest.mark.parametrize("make", RANDOM, ids=names)


def training_graph(layer: Any, shape: tuple[int, ...] = X.shape[1:]) -> Graph:
    """The forward graph that training makes of a model of one layer."""
    model = keras.Sequential([keras.Input(shape, name="x"), layer])
    graph, _ = model.graph_of_variables()
    trained = training_mode(graph, (), {})
    return with_outputs(trained.builder, {"y": trained.outputs[0]})


def in_training(layer: Any, key: int, step: int, x: np.ndarray = X) -> np.ndarray:
    graph = training_graph(layer, x.shape[1:])
    seed = np.array([key, step], np.uint32)
    return np.asarray(run_graph(graph, {"x": x, SEED_INPUT: seed})["y"])


@each_random
def test_nothing_happens_at_inference(make: Any) -> None:
    model = keras.Sequential([keras.Input(X.shape[1:]), make()])
    np.testing.assert_array_equal(model.predict(X, verbose=0), X)
    graphs = model.graphs()
    (graph,) = (pipeline_for("inference", "cpu").run(g) for g in graphs.values())
    assert not any(isinstance(node.op, Drawn) for node in graph.nodes)
    np.testing.assert_array_equal(make()(X, training=False), X)


@each_random
def test_training_draws_by_seed_and_step(make: Any) -> None:
    first = in_training(make(), 5, 0)
    np.testing.assert_array_equal(in_training(make(), 5, 0), first)
    for key, step in ((6, 0), (5, 1)):
        other = in_training(make(), key, step)
        assert np.any(other != first)
        assert np.any(other != X)
    assert (
        len({image.tobytes() for image in in_training(make(), 5, 0, np.repeat(X[:1], 40, 0))}) > 1
    )


@each_random
def test_a_layers_own_seed_needs_no_model(make: Any) -> None:
    np.testing.assert_array_equal(in_training(make(seed=4), 5, 2), in_training(make(seed=4), 77, 2))
    layer, again = make(seed=4), make(seed=4)
    first, second = layer(X), layer(X)
    np.testing.assert_array_equal(again(X), first)
    np.testing.assert_array_equal(again(X), second)
    assert np.any(first != second)


@each_random
def test_arrays_are_changed_at_once(make: Any) -> None:
    keras.utils.set_random_seed(3)
    found = make()(X)
    assert isinstance(found, np.ndarray)
    assert found.shape == X.shape
    assert np.any(found != X)
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(make()(X), found)
    assert make()(X[0]).shape == X.shape[1:]
    assert make()(X.astype(np.uint8)).dtype == np.float32


@each_random
def test_channels_first_is_the_same(make: Any) -> None:
    turned = X.transpose(0, 3, 1, 2)
    first = make(seed=1, data_format="channels_first")(turned)
    np.testing.assert_allclose(first, make(seed=1)(X).transpose(0, 3, 1, 2), atol=1e-3)


@each_random
def test_arrays_and_training_agree(make: Any) -> None:
    np.testing.assert_allclose(make(seed=9)(X), in_training(make(seed=9), 0, 0), atol=1e-2)


@each_random
def test_a_model_is_made_anew_from_its_config(make: Any) -> None:
    model = keras.Sequential([keras.Input(X.shape[1:]), make(seed=2)])
    again = keras.Sequential.from_config(model.get_config())
    np.testing.assert_array_equal(again.layers[0](X), make(seed=2)(X))


def test_flips_are_flips_of_one_half() -> None:
    x = np.repeat(X[:1], 400, 0)
    flipped = layers.RandomFlip("horizontal", seed=1)(x)
    mirrored = (flipped == X[0, :, ::-1]).all((1, 2, 3))
    same = (flipped == X[0]).all((1, 2, 3))
    assert np.all(mirrored ^ same)
    assert 150 < mirrored.sum() < 250
    down = layers.RandomFlip("vertical", seed=1)(x)
    assert set((down == X[0, ::-1]).all((1, 2, 3))) == {True, False}
    both = {image.tobytes() for image in layers.RandomFlip(seed=1)(x)}
    assert both == {
        np.ascontiguousarray(X[0, ::a, ::b]).tobytes() for a in (1, -1) for b in (1, -1)
    }


def test_fixed_factors_are_exact() -> None:
    square = X[:, :, :8]
    quarter = layers.RandomRotation((0.25, 0.25), fill_mode="constant")(square)
    np.testing.assert_allclose(quarter, np.rot90(square, 1, (1, 2)), atol=1e-2)
    moved = layers.RandomTranslation((0.25, 0.25), (-0.5, -0.5), fill_mode="wrap")(square)
    np.testing.assert_allclose(moved, np.roll(square, (2, -4), (1, 2)), atol=1e-2)
    filled = layers.RandomTranslation((0.25, 0.25), (0, 0), fill_mode="constant", fill_value=9.0)(
        square
    )
    assert np.all(filled[:, :2] == 9)
    zoomed = layers.RandomZoom((-0.5, -0.5), interpolation="nearest")(square)
    np.testing.assert_array_equal(zoomed, np.repeat(np.repeat(square[:, 2:6, 2:6], 2, 1), 2, 2))


def test_colours_stay_in_their_range() -> None:
    brighter = layers.RandomBrightness((0.5, 0.5))(X)
    np.testing.assert_allclose(brighter, np.minimum(X + 127.5, 255), rtol=1e-6)
    flat = layers.RandomContrast((1.0, 0.0), seed=1)(np.repeat(X[:1], 200, 0))
    means = X[0].mean((0, 1))
    factors = ((flat - means) / (X[0] - means)).mean((1, 2, 3))
    assert 0 <= factors.min() < 0.05
    assert 0.95 < factors.max() <= 1.001


def test_a_random_crop_is_a_window() -> None:
    windows = {
        np.ascontiguousarray(X[:, i : i + 5, j : j + 4]).tobytes()
        for i in range(4)
        for j in range(6)
    }
    layer = layers.RandomCrop(5, 4, seed=1)
    assert len({layer(X).tobytes() for _ in range(30)} & windows) > 10
    assert {in_training(layers.RandomCrop(5, 4), k, 0).tobytes() for k in range(10)} <= windows
    model = keras.Sequential([keras.Input(X.shape[1:]), layers.RandomCrop(4, 4)])
    expected = layers.Resizing(4, 4, crop_to_aspect_ratio=True)(X).numpy()
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5)


def test_a_model_with_random_layers_trains() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((8, 9, 3)), layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 255),
        layers.Flatten(), layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(X, np.arange(6) % 2, epochs=3, batch_size=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_statistics_of_batches_are_those_of_the_whole() -> None:
    whole, batches, two = (layers.Normalization(axis=-1) for _ in range(3))
    whole.adapt(X)
    data = [X[:1], X[1:5], X[5:]]
    batches.adapt((x, None) for x in data)
    two.adapt(iter(data), steps=2)
    for found, expected in ((batches, X), (two, X[:5])):
        np.testing.assert_allclose(found.mean.value, expected.mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(found.variance.value, expected.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(whole.variance.value, batches.variance.value, rtol=1e-6)
    assert int(whole.count.value) == int(batches.count.value) == 6 * 8 * 9
    with pytest.raises(ModelError, match="needs data"):
        layers.Normalization().adapt(iter(()))


# ---------------------------------------------------------------- sizes


def test_resizing_keeps_the_aspect_ratio_if_asked() -> None:
    assert layers.Resizing(4, 5)(X).shape == (6, 4, 5, 3)
    cropped = layers.Resizing(4, 4, crop_to_aspect_ratio=True, interpolation="nearest")(X).numpy()
    np.testing.assert_array_equal(cropped, layers.Resizing(4, 4, "nearest")(X[:, :, :8]).numpy())
    padded = layers.Resizing(20, 9, pad_to_aspect_ratio=True, fill_value=7.0)(X).numpy()
    assert padded.shape == (6, 20, 9, 3)
    assert np.all(padded[:, :6] == 7)
    np.testing.assert_array_equal(padded[:, 6:14], X)


def test_center_crop_takes_the_middle() -> None:
    np.testing.assert_array_equal(layers.CenterCrop(4, 3)(X).numpy(), X[:, 2:6, 3:6])
    assert layers.CenterCrop(16, 3)(X).shape == (6, 16, 3, 3)
    first = layers.CenterCrop(4, 3, data_format="channels_first")(X.transpose(0, 3, 1, 2)).numpy()
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), X[:, 2:6, 3:6])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RandomFlip("diagonal"), "mode must be one of 'horizontal'"),
        (
            lambda: layers.RandomRotation(1.5),
            r"factor must be a number or two numbers from -1 to 1; received \(-1.5",
        ),
        (lambda: layers.RandomContrast(2.0), "factor must be"),
        (
            lambda: layers.RandomBrightness(0.1, value_range=3),
            "value_range must be two numbers; received 3",
        ),
        (lambda: layers.RandomZoom(0.1, fill_mode="mirror"), "fill_mode must be one of 'reflect'"),
        (lambda: layers.RandomCrop(0, 3), "height must be a positive integer"),
        (lambda: layers.RandomFlip(seed=WRONG), "seed must be an integer or None"),
        (lambda: layers.RandomFlip()(np.zeros((2, 2))), "expected images of rank 3 or 4"),
        (lambda: layers.Resizing(4, 4)(np.zeros((2, 4))), "expected a batch of images"),
        (
            lambda: layers.Resizing(4, 4, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True),
            "only one of",
        ),
    ],
)
def test_wrong_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()


def test_a_model_resizes_as_the_function_does() -> None:
    for method in ("bicubic", "lanczos3", "area"):
        model = keras.Sequential([keras.Input(X.shape[1:]), layers.Resizing(4, 5, method)])
        expected = np.asarray(keras.ops.image.resize(X, (4, 5), method))
        np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-3)
    assert layers.Resizing(4, 5)(X[0]).shape == (4, 5, 3)
    assert np.asarray(layers.Resizing(4, 5)(X.astype(np.uint8))).dtype == np.uint8


def test_what_comes_before_an_augmentation_is_trained_through_it() -> None:
    def trained(*between: Any) -> tuple[float, Any]:
        keras.utils.set_random_seed(4)
        model = keras.Sequential([
            keras.Input((6, 5, 2)), layers.Conv2D(3, 2, padding="same", name="c"), *between, layers.Flatten(),
            layers.Dense(2),
        ])  # fmt: skip
        model.compile(keras.optimizers.SGD(0.1), "mse")
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(4, 6, 5, 2)), rng.normal(size=(4, 2))
        losses = [
            model.train_on_batch(x.astype(np.float32), y.astype(np.float32)) for _ in range(3)
        ]
        return float(losses[-1]), model.get_weights()[0]

    plain, kernel = trained()
    loss, same = trained(layers.RandomRotation(0.0), layers.RandomZoom(0.0))
    assert loss == pytest.approx(plain, rel=1e-5)
    np.testing.assert_allclose(same, kernel, rtol=1e-4, atol=1e-6)
    turned, other = trained(layers.RandomRotation(0.3, seed=1))
    assert np.isfinite(turned)
    assert np.abs(other - kernel).max() > 1e-4
