"""ImageDataGenerator: what it does to images, and streams that no thread count changes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError, ModelError, UnsupportedError, UsageError
from convc.keras.preprocessing.image import (
    ImageDataGenerator,
    apply_affine_transform,
    apply_brightness_shift,
    apply_channel_shift,
    iterators,
)
from convc.keras.preprocessing.image.parameters import Plan, matrices

RANDOM = np.random.default_rng(8)
X = RANDOM.integers(0, 256, (23, 8, 6, 3), np.uint8)
Y = np.arange(23)
TUTORIAL: dict[str, Any] = {
    "rotation_range": 20, "width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True,
}  # fmt: skip
EVERYTHING: dict[str, Any] = {
    **TUTORIAL, "shear_range": 10, "zoom_range": 0.2, "channel_shift_range": 30.0, "brightness_range": (0.5, 1.5),
    "rescale": 1 / 255, "samplewise_center": True, "fill_mode": "reflect",
}  # fmt: skip


def sampled(image: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A pixel by bilinear interpolation, the border repeated: the definition."""
    at = np.clip(point, 0, np.array(image.shape[:2]) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, np.array(image.shape[:2]) - 1)
    down, along = at - low
    top = image[low[0], low[1]] * (1 - along) + image[low[0], high[1]] * along
    bottom = image[high[0], low[1]] * (1 - along) + image[high[0], high[1]] * along
    return np.asarray(top * (1 - down) + bottom * down)


def test_a_turned_image_is_what_the_definition_says() -> None:
    image = RANDOM.uniform(0, 255, (7, 7, 2)).astype(np.float32)
    found = apply_affine_transform(image, theta=30, row_axis=0, col_axis=1, channel_axis=2)
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    for i in range(7):
        for j in range(7):
            x, y = j - 3, i - 3
            point = np.array([sin * x + cos * y + 3, cos * x - sin * y + 3])
            np.testing.assert_allclose(found[i, j], sampled(image, point), rtol=1e-4, atol=1e-3)


def test_channels_first_is_the_same_image() -> None:
    image = RANDOM.uniform(0, 255, (9, 9, 3)).astype(np.float32)
    last = apply_affine_transform(image, 20, 1, 2, 3, 1.1, 0.9, 0, 1, 2)
    first = apply_affine_transform(image.transpose(2, 0, 1), 20, 1, 2, 3, 1.1, 0.9)
    np.testing.assert_array_equal(first, last.transpose(2, 0, 1))


def test_flips_are_exact() -> None:
    generator = ImageDataGenerator(horizontal_flip=True, vertical_flip=True)
    image = X[0].astype(np.float32)
    for h in (False, True):
        for v in (False, True):
            found = generator.apply_transform(image, {"flip_horizontal": h, "flip_vertical": v})
            expected = image[:: -1 if v else 1, :: -1 if h else 1]
            np.testing.assert_array_equal(found, expected)


def test_whole_shifts_repeat_wrap_mirror_or_fill() -> None:
    image = np.arange(1.0, 5.0, dtype=np.float32).reshape(4, 1, 1)  # rows 1 2 3 4
    expected = {
        "nearest": [3, 4, 4, 4],
        "reflect": [3, 4, 4, 3],
        "constant": [3, 4, 9, 9],
        "wrap": [3, 4, 2, 3],
    }
    for mode, rows in expected.items():
        found = ImageDataGenerator(fill_mode=mode, cval=9).apply_transform(image, {"ty": 2})
        assert found.ravel().tolist() == rows, mode


def test_a_channel_shift_is_clipped_to_the_images_range() -> None:
    image = np.array([[[10.0, 20.0, 30.0]]], np.float32)
    assert apply_channel_shift(image, 15, 2).ravel().tolist() == [25, 30, 30]
    assert apply_channel_shift(image, -15, 2).ravel().tolist() == [10, 10, 15]


def test_brightness_works_on_bytes() -> None:
    image = np.array([[[10.7], [100.0], [200.0]]], np.float32)
    assert apply_brightness_shift(image, 1.5, scale=False).ravel().tolist() == [15, 150, 255]
    assert apply_brightness_shift(image, 0.25, scale=False).ravel().tolist() == [2, 25, 50]
    beyond = np.array([[[-1.0], [0.0], [1.0]]], np.float32)
    found = apply_brightness_shift(beyond, 0.5, scale=False).ravel()
    np.testing.assert_allclose(found, [-1, -1 + 63 / 255 * 2, -1 + 127 / 255 * 2], rtol=1e-6)


def test_without_arguments_images_are_only_cast() -> None:
    batch = ImageDataGenerator().flow(X, batch_size=23, shuffle=False)[0]
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, X)


@pytest.mark.parametrize("arguments", [{}, {"rotation_range": 20}, {"brightness_range": (0.5, 1)}])
def test_what_is_drawn_for_many_batches_at_once_is_what_each_draws(
    arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iterators, "PLANNED", 10)
    generator = ImageDataGenerator(**arguments)
    found = generator.flow(X, batch_size=3, seed=4)
    for epoch, index in ((0, 0), (0, 7), (1, 2), (0, 3)):
        chosen = found.order(epoch)[3 * index : 3 * index + 3]
        alone = generator.augmented(X[chosen], 4, epoch, chosen)
        np.testing.assert_array_equal(found.batch(epoch, index), alone)
        np.testing.assert_array_equal(found.transformed_batch(epoch, chosen), alone)


def test_a_batch_is_what_single_images_become() -> None:
    generator = ImageDataGenerator(**EVERYTHING)
    parameters = [generator.get_random_transform((8, 6, 3), seed=k) for k in range(5)]
    together = {k: np.array([p[k] for p in parameters], np.float64) for k in parameters[0]}
    plan = Plan(matrices(together, 8, 6), together)
    batch = generator.applied(X[:5], plan)
    for k, p in enumerate(parameters):
        one = generator.standardize(generator.apply_transform(X[k].astype(np.float32), p))
        np.testing.assert_allclose(batch[k], one, atol=1e-6)


def test_statistics_center_and_scale_the_data() -> None:
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(X)
    batch = generator.flow(X, batch_size=23, shuffle=False)[0]
    np.testing.assert_allclose(batch.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(batch.std((0, 1, 2)), 1, atol=1e-4)
    each = ImageDataGenerator(samplewise_center=True, samplewise_std_normalization=True)
    batch = each.flow(X, batch_size=23)[0]
    np.testing.assert_allclose(batch.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(batch.std((1, 2, 3)), 1, atol=1e-4)


def test_whitened_data_has_a_unit_covariance() -> None:
    x = RANDOM.uniform(0, 1, (500, 2, 2, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match="overrides setting of `featurewise_center`"):
        generator = ImageDataGenerator(zca_whitening=True)
    generator.fit(x)
    batch = generator.flow(x, batch_size=500)[0]
    assert batch.dtype == np.float32
    white = batch.reshape(500, 12)
    np.testing.assert_allclose(white.T @ white / 500, np.eye(12), atol=1e-2)


def test_statistics_that_were_not_fit_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="hasn't been fit"):
        ImageDataGenerator(featurewise_center=True).standardize(X[0].astype(np.float32))


# ---------------------------------------------------------------- streams


def epochs(iterator: Any, count: int) -> list[np.ndarray]:
    found = []
    for _ in range(count):
        found += [iterator[k] for k in range(len(iterator))]
        iterator.on_epoch_end()
    return found


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_one_seed_gives_one_stream(workers: int) -> None:
    generator = ImageDataGenerator(**EVERYTHING)
    expected = epochs(generator.flow(X, Y, 5, seed=3), 3)
    iterator = generator.flow(X, Y, 5, seed=3)
    iterator.workers = workers
    assert_same([next(iterator) for _ in expected], expected)
    iterator.reset()
    other = epochs(generator.flow(X, Y, 5, seed=4), 1)
    assert any(np.any(a[0] != b[0]) for a, b in zip(other, expected, strict=False))


def test_batches_in_any_order_from_many_threads_are_the_same() -> None:
    iterator = ImageDataGenerator(**TUTORIAL).flow(X, Y, 4, seed=3)
    expected = [iterator[k] for k in range(len(iterator))]
    found: dict[int, Any] = {}

    def work(keys: list[int]) -> None:
        for k in keys:
            found[k] = iterator[k]

    order = np.random.default_rng(1).permutation(len(iterator)).tolist()
    threads = [threading.Thread(target=work, args=(order[k::3],)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same([found[k] for k in range(len(iterator))], expected)


def test_an_image_is_drawn_for_alike_in_batches_of_any_size() -> None:
    generator = ImageDataGenerator(**TUTORIAL)
    whole = generator.flow(X, batch_size=23, shuffle=False, seed=1)[0]
    parts = epochs(generator.flow(X, batch_size=4, shuffle=False, seed=1), 1)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_every_epoch_has_each_sample_once_in_another_order() -> None:
    iterator = ImageDataGenerator().flow(X, Y, 5, seed=2)
    rounds = [np.concatenate([y for _, y in epochs(iterator, 1)]) for _ in range(2)]
    assert all(sorted(r) == list(range(23)) for r in rounds)
    assert rounds[0].tolist() != rounds[1].tolist()
    assert [len(iterator[k][1]) for k in range(5)] == [5, 5, 5, 5, 3]


def test_without_a_seed_numpys_generator_draws_one() -> None:
    def order() -> list[int]:
        return ImageDataGenerator().flow(X, Y, 23)[0][1].tolist()

    keras.utils.set_random_seed(1)
    first = order()
    assert order() != first
    keras.utils.set_random_seed(1)
    assert order() == first


def test_targets_weights_and_other_inputs_go_along() -> None:
    weights = Y / 10
    other = Y[:, None] * 2
    iterator = ImageDataGenerator().flow((X, other), Y, 7, sample_weight=weights, seed=1)
    (images, misc), y, w = next(iterator)
    np.testing.assert_array_equal(images, X[y])
    np.testing.assert_array_equal(misc, y[:, None] * 2)
    np.testing.assert_array_equal(w, y / 10)


def test_subsets_share_the_data_out() -> None:
    generator = ImageDataGenerator(validation_split=0.25)
    y = Y % 2
    parts = {
        s: generator.flow(X, y, 99, shuffle=False, subset=s)[0][0]
        for s in ("validation", "training")
    }
    np.testing.assert_array_equal(np.concatenate([parts["validation"], parts["training"]]), X)
    assert len(parts["validation"]) == 5
    with pytest.raises(DataError, match="different classes"):
        generator.flow(X, Y, subset="training")
    with pytest.raises(UsageError, match=r"validation_split=0\.0 leaves none of"):
        ImageDataGenerator().flow(X, y, subset="training")


def test_a_preprocessing_function_sees_each_image() -> None:
    seen = []

    def halved(image: np.ndarray) -> np.ndarray:
        seen.append(image.shape)
        return image / 2

    batch = ImageDataGenerator(preprocessing_function=halved, rescale=2).flow(
        X, batch_size=3, shuffle=False
    )[0]
    np.testing.assert_allclose(batch, X[:3])
    assert seen == [(8, 6, 3)] * 3


def test_an_error_in_a_worker_is_the_callers() -> None:
    def broken(image: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        next(ImageDataGenerator(preprocessing_function=broken).flow(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zoom_range": (1, 2, 3)}, "zoom_range must be a float or"),
        ({"brightness_range": 0.5}, "brightness_range must be a tuple"),
        (
            {"fill_mode": "mirror"},
            "fill_mode must be one of 'constant', 'nearest', 'reflect', 'wrap'",
        ),
        (
            {"validation_split": 1.5},
            "validation_split must be a number between 0 and 1; received 1.5",
        ),
        ({"data_format": "middle"}, "data_format must be"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ImageDataGenerator(**arguments)


def test_splines_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="order 3 isn't supported; expected 0"):
        ImageDataGenerator(interpolation_order=3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [(X[0], None, "rank 4"), (X, Y[:5], "expected 23 rows of y, as of x; received 5")],
)
def test_arrays_that_do_not_fit_are_named(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageDataGenerator().flow(x, y)


# ---------------------------------------------------------------- in fit


def weights_after_fit(workers: int, **arguments: Any) -> list[Any]:
    """The weights of a small model that was trained on augmented batches."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((8, 6, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-2), "sparse_categorical_crossentropy")
    flow = ImageDataGenerator(**TUTORIAL, rescale=1 / 255).flow(X, Y % 2, 5, seed=3)
    flow.workers = workers
    model.fit(flow, epochs=3, verbose=0, **arguments)
    return model.get_weights()


@pytest.mark.parametrize("steps", [None, 4, 7])
def test_training_is_the_same_for_any_number_of_workers(steps: int | None) -> None:
    expected = weights_after_fit(0, steps_per_epoch=steps)
    for workers in (1, 3):
        assert_same([weights_after_fit(workers, steps_per_epoch=steps)], [expected])


def test_every_epoch_sees_other_images() -> None:
    iterator = ImageDataGenerator(**TUTORIAL).flow(X, Y, 23, seed=3)
    seen: list[Any] = []
    whole = iterator.batch

    def noted(epoch: int, index: int) -> Any:
        seen.append((epoch, index))
        return whole(epoch, index)

    setattr(iterator, "batch", noted)  # noqa: B010
    model = keras.Sequential(
        [keras.Input((8, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(iterator, epochs=2, verbose=0)
    model.fit(iterator, epochs=1, verbose=0)
    assert seen == [(0, 0), (1, 0), (2, 0)]


def test_sequences_with_workers_are_read_by_threads_in_order() -> None:
    class Slow(keras.utils.Sequence):
        def __init__(self, workers: int) -> None:
            super().__init__(workers=workers)
            self.threads: set[str] = set()

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Any:
            self.threads.add(threading.current_thread().name)
            return np.full((1, 2), index, np.float32), np.zeros((1, 1), np.float32)

    def trained(workers: int) -> tuple[Any, bool]:
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        data = Slow(workers)
        model.fit(data, epochs=2, verbose=0, shuffle=False)
        return model.get_weights(), any("convc-data" in t for t in data.threads)

    (alone, threaded), (together, threads) = trained(1), trained(3)
    assert_same([alone], [together])
    assert (threaded, threads) == (False, True)
