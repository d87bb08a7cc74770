"""Image layers on samples: what goes with images changes as they do; layers that mix, choose or distort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError, DataError, UnsupportedError
from convc.keras import layers, ops
from convc.keras.utils.pipelines import Dataset

RANDOM = np.random.default_rng(5)
X = RANDOM.integers(0, 256, (8, 12, 16, 3), np.uint8)
Y = np.eye(4, dtype=np.float32)[RANDOM.integers(0, 4, 8)]
MASKS = RANDOM.integers(0, 5, (8, 12, 16, 1), np.uint8)
BOXES = np.tile(np.array([[2, 3, 9, 8], [0, 0, 16, 12]], np.float32), (8, 1, 1))
BOXED = {"boxes": BOXES, "labels": np.tile([[1, 2]], (8, 1))}


def mapped(mode: str, at: np.ndarray, extent: int) -> np.ndarray:
    """The pixels that numpy's padding has at whole places."""
    around = 3 * extent
    kind: Any = {"mirror": "reflect", "reflect": "symmetric", "wrap": "wrap", "nearest": "edge"}[
        mode
    ]
    return np.asarray(np.pad(np.arange(extent), around, mode=kind)[at + around])


@pytest.mark.parametrize("mode", ["mirror", "reflect", "wrap", "nearest"])
def test_maps_continue_images_as_padding_does(mode: str) -> None:
    x = X[0, :, :, 0].astype(np.float32)
    i, j = RANDOM.integers(-20, 30, (2, 50))
    found = np.asarray(ops.image.map_coordinates(x, np.stack([i, j]).astype(np.float32), 1, mode))
    np.testing.assert_array_equal(found, x[mapped(mode, i, 12), mapped(mode, j, 16)])


def test_a_mirrored_transform_is_the_map_of_its_places() -> None:
    maps = np.array([0.9, 0.2, -4, -0.1, 1.2, 3, 0, 0], np.float32)
    x = X[0].astype(np.float32)
    i, j = np.meshgrid(np.arange(12), np.arange(16), indexing="ij")
    places = np.stack([-0.1 * j + 1.2 * i + 3, 0.9 * j + 0.2 * i - 4]).astype(np.float32)
    found = np.asarray(ops.image.affine_transform(x, maps, fill_mode="mirror"))
    for c in range(3):
        wanted = np.asarray(ops.image.map_coordinates(x[..., c], places, 1, "mirror"))
        np.testing.assert_allclose(found[..., c], wanted, atol=1e-2)


def test_an_elastic_transform_without_strength_changes_nothing() -> None:
    x = X.astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(ops.image.elastic_transform(x, 0.0, seed=1)), x, atol=1e-3
    )
    drawn = [np.asarray(ops.image.elastic_transform(x, 2.0, 1.5, seed=s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1


MOVING: list[Any] = [
    lambda **k: layers.RandomFlip(**k),
    lambda **k: layers.RandomTranslation((0.25, 0.25), (-0.25, -0.25), fill_mode="constant", **k),
    lambda **k: layers.RandomZoom((-0.5, -0.5), interpolation="nearest", **k),
    lambda **k: layers.RandomRotation((0.5, 0.5), **k),
    lambda **k: layers.RandomShear((0.25, 0.25), fill_mode="constant", **k),
    lambda **k: layers.RandomPerspective(scale=0.3, **k),
    lambda **k: layers.RandomCrop(7, 9, **k),
]
moving = pytest.mark.parametrize(
    "make", MOVING, ids=["flip", "translation", "zoom", "half turn", "shear", "perspective", "crop"]
)


@moving
def test_masks_and_boxes_move_as_images_do(make: Any) -> None:
    """A rectangle of ones in the image is one in the mask, and the box is around it."""
    marked = np.zeros((8, 12, 16, 1), np.float32)
    marked[:, 4:9, 3:10] = 255
    boxes = {
        "boxes": np.tile(np.array([[3, 4, 10, 9]], np.float32), (8, 1, 1)),
        "labels": np.ones((8, 1)),
    }
    data = {
        "images": marked, "segmentation_masks": (marked[..., 0] > 0).astype(np.uint8), "bounding_boxes": boxes,
        "labels": Y, "name": np.arange(8),
    }  # fmt: skip
    found = make(seed=3, bounding_box_format="xyxy")(data)
    assert found["segmentation_masks"].dtype == np.uint8
    assert found["segmentation_masks"].shape == found["images"].shape[:3]
    np.testing.assert_array_equal(found["labels"], Y)
    np.testing.assert_array_equal(found["name"], np.arange(8))
    for image, mask, (box,) in zip(
        found["images"][..., 0],
        found["segmentation_masks"],
        found["bounding_boxes"]["boxes"],
        strict=True,
    ):
        assert np.abs((image > 127) ^ (mask > 0)).sum() <= 14  # halves go either way at the edge
        rows, columns = np.nonzero(mask)
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, around, atol=1.6)


@moving
def test_without_training_samples_stay(make: Any) -> None:
    if isinstance(layer := make(bounding_box_format="xyxy"), layers.RandomCrop):
        return
    found = layer({"images": X, "bounding_boxes": BOXED}, training=False)
    np.testing.assert_array_equal(found["images"], X)
    np.testing.assert_array_equal(found["bounding_boxes"]["boxes"], BOXES)


def test_a_single_sample_is_one_of_a_batch() -> None:
    layer = layers.RandomTranslation((0.25, 0.25), (0, 0), bounding_box_format="xywh")
    one = layer(
        {"images": X[0], "labels": Y[0], "bounding_boxes": {"boxes": BOXES[0], "labels": [1, 2]}}
    )
    assert one["images"].shape == X.shape[1:]
    assert one["bounding_boxes"]["boxes"].tolist() == [[2, 6, 9, 6], [0, 3, 16, 9]]


def test_boxes_of_different_numbers_are_filled_up() -> None:
    boxes = {"boxes": [[[1, 1, 3, 3]], [[2, 2, 4, 5], [0, 0, 1, 1]]], "labels": [[7], [8, 9]]}
    layer = layers.MaxNumBoundingBoxes(3, bounding_box_format="xyxy")
    found = layer({"images": X[:2], "bounding_boxes": boxes})["bounding_boxes"]
    assert found["labels"].tolist() == [[7, -1, -1], [8, 9, -1]]
    assert found["boxes"].shape == (2, 3, 4)


def test_boxes_that_leave_the_image_lose_their_labels() -> None:
    layer = layers.CenterCrop(4, 4, bounding_box_format="xyxy")
    found = layer({"images": X, "bounding_boxes": BOXED})["bounding_boxes"]
    assert found["boxes"][0].tolist() == [[0, 0, 3, 4], [0, 0, 4, 4]]
    gone = {"boxes": np.array([[[0.0, 0, 2, 3]]] * 8), "labels": np.array([[5]] * 8)}
    assert layer({"images": X, "bounding_boxes": gone})["bounding_boxes"]["labels"][0].tolist() == [
        -1
    ]


def test_shear_moves_rows_and_columns_by_their_numbers() -> None:
    x = np.repeat(X[:1].astype(np.float32), 200, 0)
    found = layers.RandomShear((1, 1), fill_mode="wrap", interpolation="nearest", seed=1)(x)
    ways = []
    for k in (1, -1):
        rows = [np.roll(x[0, i], -k * i, 0) for i in range(12)]
        ways.append((found == np.stack(rows)).all((1, 2, 3)))
    assert np.all(ways[0] ^ ways[1])
    assert 60 < ways[0].sum() < 140


def test_mixed_images_and_labels_have_the_same_shares() -> None:
    layer = layers.MixUp(alpha=0.7, seed=2)
    images = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
    labels = np.eye(8, dtype=np.float32)
    found = layer({"images": images, "labels": labels})
    np.testing.assert_allclose(found["labels"].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        found["images"][:, 0, 0, 0], found["labels"] @ np.arange(8), rtol=1e-5
    )
    again = layers.MixUp(alpha=0.7, seed=2)({"images": images, "labels": labels})
    np.testing.assert_array_equal(again["images"], found["images"])
    drawn = layers.MixUp(alpha=0.2, seed=3).draws(np.zeros((4000, 1, 1, 1)))["share"]
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.var() - 1 / (4 * (2 * 0.2 + 1))) < 0.01  # of Beta(0.2, 0.2)


def test_cut_images_show_the_share_of_their_labels() -> None:
    images = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones(
        (1, 40, 30, 1), np.float32
    )
    found = layers.CutMix(seed=1)({"images": images, "labels": np.eye(8, dtype=np.float32)})
    for k, (image, label) in enumerate(zip(found["images"], found["labels"], strict=True)):
        other = np.argmax(label * (np.arange(8) != k)) if label[k] < 1 else k
        assert set(np.unique(image)) <= {k, other}
        assert abs((image == k).mean() - (1 if other == k else label[k])) < 0.07
        rows, columns = np.nonzero(image[..., 0] != k)
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    with pytest.raises(UnsupportedError, match="bounding boxes; the nearest is MixUp"):
        layers.CutMix(bounding_box_format="xyxy")({"images": X, "bounding_boxes": BOXED})


def test_an_erased_rectangle_is_inside_and_as_large_as_drawn() -> None:
    white = np.full((300, 50, 40, 1), 9, np.float32)
    found = layers.RandomErasing((1, 1), (0.25, 0.25), fill_value=1.0, seed=1)(white)
    for image in np.asarray(found)[..., 0]:
        rows, columns = np.nonzero(image == 1)
        assert abs(np.ptp(rows) + 1 - 25) <= 1
        assert abs(np.ptp(columns) + 1 - 20) <= 1
    starts = [np.nonzero((image == 1).any(1))[0][0] for image in np.asarray(found)[..., 0]]
    assert np.min(starts) <= 1
    assert 24 <= np.max(starts) <= 26
    colours = layers.RandomErasing((1, 1), fill_value=(1, 2, 3), seed=1)(X)
    changed = (np.asarray(colours) != X).any(-1)
    assert np.all(np.asarray(colours)[changed] == (1, 2, 3))


SEEDED: dict[str, dict[str, Any]] = {
    "RandomColorDegeneration": {"factor": 0.5}, "RandomHue": {"factor": 0.5}, "RandomSharpness": {"factor": 0.5},
    "RandomPosterization": {"factor": (2, 7)}, "Solarization": {"addition_factor": 0.5},
    "RandomInvert": {"factor": 0.5}, "RandomErasing": {}, "RandomGaussianBlur": {}, "RandomPerspective": {},
    "RandomElasticTransform": {}, "RandomColorJitter": {"brightness_factor": 0.3, "saturation_factor": 0.4},
    "RandomShear": {"x_factor": 0.3}, "RandomCrop": {"height": 5, "width": 6},
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEDED)
def test_the_same_seed_draws_the_same(kind: str) -> None:
    one, two = (getattr(layers, kind)(seed=4, **SEEDED[kind]) for _ in range(2))
    first = [np.asarray(one(X)) for _ in range(3)]
    for found in first:
        np.testing.assert_array_equal(np.asarray(two(X)), found)
    assert len({f.tobytes() for f in first}) == 3


CHOOSING: list[Any] = [
    lambda **k: layers.RandAugment(num_ops=1, **k),
    lambda **k: layers.AugMix(num_chains=1, chain_depth=1, **k),
]


@pytest.mark.parametrize("make", CHOOSING, ids=["RandAugment", "AugMix"])
def test_policies_draw_by_their_seed_and_train_in_models(make: Any) -> None:
    x = X[:4, :6, :7]
    one, two = make(seed=4), make(seed=4)
    first = [np.asarray(one(x)) for _ in range(3)]
    for k in range(3):
        np.testing.assert_array_equal(np.asarray(two(x)), first[k])
    assert len({f.tobytes() for f in first}) > 1
    assert all(f.min() >= 0 and f.max() <= 255 for f in first)
    model = keras.Sequential(
        [keras.Input((6, 7, 3)), make(seed=1), layers.Flatten(), layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(x.astype(np.float32) / 255, Y[:4, :2]))
    np.testing.assert_array_equal(make()(x, training=False), x)


def test_distortions_train_in_models_and_vanish_at_inference() -> None:
    keras.utils.set_random_seed(1)
    between = [
        layers.RandomShear(0.2, 0.2), layers.RandomPerspective(scale=0.3),
        layers.RandomElasticTransform(value_range=(0, 1)),
    ]  # fmt: skip
    model = keras.Sequential([keras.Input((6, 7, 3)), *between])
    x = X[:4, :6, :7].astype(np.float32) / 255
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    drawn = [np.asarray(model(x, training=True)) for _ in range(2)]
    assert not np.array_equal(drawn[0], drawn[1])
    trained = keras.Sequential([model, layers.Flatten(), layers.Dense(1)])
    trained.compile("sgd", "mse")
    assert np.isfinite(trained.train_on_batch(x, Y[:4, :1]))


@pytest.mark.parametrize("kind", ["RandomTranslation", "RandomHue"])
def test_a_models_call_draws_anew(kind: str) -> None:
    """What such a layer does within a call of a model is part of the call's program, not a value of the first one."""
    arguments = {"RandomTranslation": (0.4, 0.4), "RandomHue": (0.9,)}[kind]
    model = keras.Sequential([keras.Input((6, 7, 3)), getattr(layers, kind)(*arguments)])
    x = X[:4, :6, :7].astype(np.float32)
    drawn = {np.asarray(model(x, training=True)).tobytes() for _ in range(4)}
    assert len(drawn) > 1


def test_a_pipeline_maps_data_and_is_made_anew() -> None:
    pipeline = layers.Pipeline([layers.RandomFlip(seed=1), layers.MixUp(seed=2)])
    data = Dataset.from_tensor_slices({"images": X, "labels": Y}).batch(4).map(pipeline)
    found = list(data.as_numpy_iterator())
    assert [f["images"].shape for f in found] == [(4, *X.shape[1:])] * 2
    again = layers.Pipeline.from_config(pipeline.get_config())
    twin = again({"images": X[:4], "labels": Y[:4]})
    np.testing.assert_array_equal(twin["labels"], found[0]["labels"])
    chain = layers.Pipeline(
        [layers.Rescaling(1 / 255), layers.RandomContrast(0.2, value_range=(0, 1))]
    )
    model = keras.Sequential([keras.Input(X.shape[1:]), chain])
    np.testing.assert_allclose(
        model.predict(X.astype(np.float32), verbose=0), X / 255, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.RandomFlip()({"labels": Y}), "expected 'images'"),
        (
            lambda: layers.RandomFlip()({"images": X, "bounding_boxes": BOXED}),
            "bounding_box_format='xyxy'",
        ),
        (
            lambda: layers.RandomFlip(bounding_box_format="xyxy")(
                {"images": X, "bounding_boxes": BOXES}
            ),
            "keys 'boxes' and 'labels'",
        ),
        (
            lambda: layers.RandomFlip(bounding_box_format="xxyy"),
            "bounding_box_format must be one of",
        ),
        (lambda: layers.Pipeline([1]), "must be a list of layers"),
        (lambda: layers.RandomShear(1.5), "x_factor must be"),
    ],
)
def test_what_is_wrong_with_a_sample_is_named(call: Any, message: str) -> None:
    with pytest.raises((ConvcError, DataError), match=message):
        call()
