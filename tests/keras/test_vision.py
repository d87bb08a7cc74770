"""What programs about pictures do besides layers: functions on images, pipelines, copies of models, draws."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers, ops
from convc.keras.ops.resampling import resampling
from convc.keras.utils.pipelines import Dataset

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((2, 6, 9, 3)).astype(np.float32)


def values(tensor: Any) -> Any:
    return np.asarray(tensor)


@pytest.mark.parametrize(
    ("size", "strides", "rate", "padding"),
    [(3, None, 1, "valid"), ((2, 3), (1, 2), 1, "same"), (2, 1, 2, "valid"), (4, 3, 1, "same")],
)
def test_patches_are_windows(size: Any, strides: Any, rate: int, padding: str) -> None:
    high, wide = (size, size) if isinstance(size, int) else size
    down, along = (strides, strides) if isinstance(strides, int) else strides or (high, wide)
    tall, broad = (high - 1) * rate + 1, (wide - 1) * rate + 1
    x, (_, rows, columns, _) = IMAGES, IMAGES.shape
    if padding == "same":
        extra = [
            max((-(-n // s) - 1) * s + w - n, 0)
            for n, w, s in ((rows, tall, down), (columns, broad, along))
        ]
        x = np.pad(x, [(0, 0), *((e // 2, e - e // 2) for e in extra), (0, 0)])
    starts = [
        range(0, n - w + 1, s)
        for n, w, s in zip(x.shape[1:3], (tall, broad), (down, along), strict=True)
    ]
    wanted = [
        [x[:, i : i + tall : rate, j : j + broad : rate].reshape(2, -1) for j in starts[1]]
        for i in starts[0]
    ]
    found = values(ops.image.extract_patches(IMAGES, size, strides, rate, padding))
    np.testing.assert_array_equal(found, np.moveaxis(np.array(wanted), 2, 0))


def test_colours_as_in_pythons_colorsys() -> None:

    hsv = values(ops.image.rgb_to_hsv(IMAGES))
    wanted = [colorsys.rgb_to_hsv(*map(float, p)) for p in IMAGES.reshape(-1, 3)]
    np.testing.assert_allclose(hsv.reshape(-1, 3), wanted, atol=1e-6)
    np.testing.assert_allclose(values(ops.image.hsv_to_rgb(hsv)), IMAGES, atol=1e-6)
    gray = IMAGES @ np.array([0.2989, 0.5870, 0.1140], np.float32)
    np.testing.assert_allclose(values(ops.image.rgb_to_grayscale(IMAGES))[..., 0], gray, rtol=1e-5)


def test_resizing_of_a_line_and_of_a_constant() -> None:
    for method in ("bilinear", "bicubic", "lanczos3", "lanczos5", "area"):
        for antialias in (False, True):
            weights = resampling(9, 4, method, antialias)
            np.testing.assert_allclose(weights.sum(axis=1), 1)
    # Keys' kernel is exact for parabolas, away from the border.
    at = np.arange(12.0)
    wanted = ((np.arange(24) + 0.5) / 2 - 0.5) ** 2
    np.testing.assert_allclose((resampling(12, 24, "bicubic", False) @ at**2)[4:-4], wanted[4:-4])
    means = IMAGES.reshape(2, 3, 2, 3, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(values(ops.image.resize(IMAGES, (3, 3), "area")), means, rtol=1e-5)


def test_blocks_crops_and_borders_are_undone() -> None:
    x = RANDOM.random((2, 4, 6, 8)).astype(np.float32)
    np.testing.assert_array_equal(values(ops.space_to_depth(ops.depth_to_space(x, 2), 2)), x)
    assert values(ops.depth_to_space(x, 2))[0, 1, 2, 1] == x[0, 0, 1, 2 * 2 + 1]
    padded = ops.image.pad_images(IMAGES, 1, 2, target_height=9, target_width=13)
    found = ops.image.crop_images(padded, 1, 2, target_height=6, target_width=9)
    np.testing.assert_array_equal(values(found), IMAGES)
    with pytest.raises(ConvcError, match="give two of what is before"):
        ops.image.crop_images(IMAGES, 1)
    assert float(ops.psnr(np.zeros(4), np.full(4, 0.1), 1.0)) == pytest.approx(20, rel=1e-5)


def test_pipelines() -> None:
    x, y = np.arange(10, dtype=np.float32), np.arange(10)
    data = Dataset.from_tensor_slices((x, y))
    whole = [int(b.numpy()) for _, b in data.shuffle(4, seed=1)]
    assert sorted(whole) == list(range(10))
    assert whole != sorted(whole)
    batches = data.map(lambda a, b: (a * 2.0, b)).batch(4)
    assert len(batches) == 3
    assert [a.shape for a, _ in batches] == [(4,), (4,), (2,)]
    (last, _) = list(batches)[-1]
    np.testing.assert_array_equal(last.numpy(), [16, 18])
    assert len(data.batch(4, drop_remainder=True)) == 2
    assert [int(v) for v in Dataset.range(3).repeat(2)] == [0, 1, 2, 0, 1, 2]
    assert [int(a) for a, _ in data.filter(lambda a, b: a > 7)] == [8, 9]
    assert int(data.repeat().cardinality()) == -1
    windows = (
        Dataset.range(6).window(3, shift=1, drop_remainder=True).flat_map(lambda w: w.batch(3))
    )
    assert [w.numpy().tolist() for w in windows] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    pairs = Dataset.zip((Dataset.range(3), Dataset.range(5)))
    assert [(int(a), int(b)) for a, b in pairs] == [(0, 0), (1, 1), (2, 2)]
    ragged = Dataset.from_generator(lambda: iter([[1], [2, 3]]), output_types="int32")
    np.testing.assert_array_equal(next(iter(ragged.padded_batch(2))).numpy(), [[1, 0], [2, 3]])
    with pytest.raises(ConvcError, match="padded_batch fills them up"):
        list(ragged.batch(2))


def test_fit_on_a_pipeline_again_and_again() -> None:
    data = Dataset.from_tensor_slices((IMAGES[:, 0, 0], np.zeros((2, 1)))).batch(2)
    model = keras.Sequential([layers.Dense(1)])  # built by the first batch
    model.compile("sgd", "mse")
    history = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert history[0] > history[1] > history[2]


class Shift(layers.Layer):  # type: ignore[misc, unused-ignore]
    def call(self, x: Any, training: Any = None) -> Any:
        return x + 10.0 if training else x


class Table(layers.Layer):  # type: ignore[misc, unused-ignore]
    """A layer whose output doesn't depend on its input."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(3,), initializer="ones")

    def call(self, x: Any) -> Any:
        return ops.broadcast_to(self.table, ops.shape(x))


def test_training_reaches_layers_of_the_user() -> None:
    model = keras.Sequential([keras.Input((3,)), Shift()])
    model.compile("sgd", "mse")
    x = np.zeros((4, 3), np.float32)
    assert model.fit(x, x, verbose=0).history["loss"] == [100.0]
    assert model.evaluate(x, x, verbose=0) == 0.0
    assert not model.predict(x, verbose=0).any()


def test_a_table_is_a_part_of_the_model_and_trains() -> None:
    start = keras.Input((3,))
    model = keras.Model(start, start + Table()(start))
    assert model.count_params() == 3
    model.compile(keras.optimizers.SGD(0.3), "mse")
    model.fit(np.zeros((4, 3)), np.zeros((4, 3)), verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], 1 - 0.3 * 2 / 3, rtol=1e-6)


def test_clones() -> None:
    one, other = keras.Input((4,), name="one"), keras.Input((4,), name="other")
    shared = layers.Dense(3, name="shared")
    y = ops.concatenate([shared(one), layers.Lambda(lambda t: t * 2)(shared(other))])
    model = keras.Model([one, other], y)
    clone = keras.models.clone_model(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    clone.set_weights(model.get_weights())
    x = IMAGES.reshape(-1, 4)[:5]
    wanted = model.predict([x, -x], verbose=0)
    np.testing.assert_array_equal(clone.predict([x, -x], verbose=0), wanted)

    def positive(layer: Any) -> Any:
        config = layer.get_config()
        return type(layer).from_config(
            {**config, **({"activation": "relu"} if layer is shared else {})}
        )

    plain = keras.Model(one, shared(one))
    cut = keras.models.clone_model(plain, clone_function=positive)
    cut.set_weights(plain.get_weights())
    np.testing.assert_array_equal(
        cut.predict(x, verbose=0), np.maximum(plain.predict(x, verbose=0), 0)
    )


def test_each_draw_has_numbers_of_its_own() -> None:
    class Twice(layers.Layer):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x: Any) -> Any:
            both = [keras.random.uniform((ops.shape(x)[0], 1), seed=self.seeds) for _ in range(2)]
            return ops.concatenate(both, -1)

    layer, x = Twice(), np.zeros((8, 1), np.float32)
    first, second = values(layer(x)), values(layer(x))
    assert len({*first.ravel(), *second.ravel()}) == 32


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (layers.RandomInvert((1, 1), value_range=(0, 1)), 1 - IMAGES),
        (layers.RandomColorDegeneration((0, 0), value_range=(0, 1)), IMAGES),
        (layers.RandomHue((0, 0), value_range=(0, 1)), IMAGES),
        (layers.RandomSaturation((0.5, 0.5), value_range=(0, 1)), IMAGES),
        (layers.RandomSharpness((0.5, 0.5), value_range=(0, 1)), IMAGES),
        (layers.Solarization(0.0, 0.0, value_range=(0, 1)), 1 - IMAGES),
        (layers.RandomErasing((1, 1), scale=(1, 1), fill_value=0.0, value_range=(0, 1)), None),
        (layers.RandomPosterization((8, 8), value_range=(0, 1)), np.floor(IMAGES * 255) / 255),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, keras.Layer) else "",
)
def test_colour_layers_at_the_ends_of_their_ranges(layer: Any, wanted: Any) -> None:
    found = layer(IMAGES)
    if wanted is None:
        assert (values(found) == 0).any()
        assert ((values(found) == 0) | (values(found) == IMAGES)).all()
    else:
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    np.testing.assert_array_equal(layer(IMAGES, training=False), IMAGES)


def test_interleaved_data_sets_take_turns() -> None:
    """The second list is the example of TensorFlow's documentation."""

    def turns(cycle: int | None, block: int | None = None) -> list[int]:
        each = Dataset.range(1, 6).interleave(
            lambda x: Dataset.from_tensors(x).repeat(6), cycle, block
        )
        return [int(x) for x in each.as_numpy_iterator()]

    assert turns(None) == [x for x in range(1, 6) for _ in range(6)]
    assert turns(2, 4) == [int(x) for x in "111122221122333344443344555555"]
    endless = Dataset.range(1, 4).interleave(lambda x: Dataset.from_tensors(x).repeat(), 2)
    assert [int(x) for x in endless.take(5).as_numpy_iterator()] == [1, 2, 1, 2, 1]
