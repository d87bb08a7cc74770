"""Image files: read, resized, written, and batches of them out of folders and tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.errors import ConvcError, InputFileError, UsageError
from convc.keras import utils
from convc.keras.layers import Resizing
from convc.keras.preprocessing.image import ImageDataGenerator

pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RANDOM = np.random.default_rng(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cats: 5 images, dogs: 3, all of their own colour and size 6 x 7; and a file that is none."""
    for name, count, value in (("cats", 5, 10), ("dogs", 3, 100)):
        (tmp_path / name).mkdir()
        for k in range(count):
            image = np.full((6, 7, 3), value + k, np.uint8)
            pillow.fromarray(image).save(tmp_path / name / f"{k}.png")
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    return tmp_path


def test_an_image_is_read_as_it_was_written(tmp_path: Path) -> None:
    image = RANDOM.integers(0, 256, (5, 4, 3), np.uint8)
    utils.save_img(tmp_path / "a.png", image, scale=False)
    found = utils.img_to_array(utils.load_img(tmp_path / "a.png"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, image)
    first = utils.img_to_array(
        utils.load_img(str(tmp_path / "a.png")), data_format="channels_first"
    )
    np.testing.assert_array_equal(first, image.transpose(2, 0, 1))
    assert utils.img_to_array(utils.load_img(tmp_path / "a.png", "grayscale")).shape == (5, 4, 1)
    assert utils.img_to_array(utils.load_img(tmp_path / "a.png", "rgba")).shape == (5, 4, 4)


def test_values_are_scaled_to_bytes() -> None:
    found = np.asarray(utils.array_to_img(np.array([[[-1.0], [0.0], [3.0]]])))
    assert found.tolist() == [[0, 63, 255]]


def test_a_target_size_may_keep_the_aspect_ratio(tmp_path: Path) -> None:
    image = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None], 4, 0)
    utils.save_img(tmp_path / "a.png", image, scale=False)
    squeezed = utils.img_to_array(utils.load_img(tmp_path / "a.png", "grayscale", (4, 4)))
    assert squeezed[0, :, 0].tolist() == [1, 3, 5, 7]
    middle = utils.load_img(tmp_path / "a.png", "grayscale", (4, 4), keep_aspect_ratio=True)
    assert utils.img_to_array(middle)[0, :, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_damaged_image_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputFileError, match=r"a\.png: can't be read as an image") as caught:
        utils.load_img(tmp_path / "a.png")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputFileError, match="no file"):
        utils.load_img(tmp_path / "b.png")


# ---------------------------------------------------------------- generators


def test_flow_from_directory_has_a_class_per_folder(folder: Path) -> None:
    flow = ImageDataGenerator(rescale=0.5).flow_from_directory(
        str(folder), (6, 7), batch_size=3, shuffle=False
    )
    assert flow.class_indices == {"cats": 0, "dogs": 1}
    assert flow.classes.tolist() == [0] * 5 + [1] * 3
    assert flow.filenames[0] == "cats/0.png"
    assert (flow.samples, flow.num_classes, len(flow)) == (8, 2, 3)
    x, y = flow[1]
    np.testing.assert_array_equal(x[:, 0, 0, 0], [6.5, 7, 50])
    np.testing.assert_array_equal(y, [[1, 0], [1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("mode", "expected"), [("binary", [0, 1]), ("sparse", [0, 1]), (None, None), ("input", "x")]
)
def test_class_modes(folder: Path, mode: Any, expected: Any) -> None:
    flow = ImageDataGenerator().flow_from_directory(
        str(folder), (4, 4), "grayscale", class_mode=mode, batch_size=8, shuffle=False
    )
    batch = flow[0]
    if mode is None:
        assert batch.shape == (8, 4, 4, 1)
    elif mode == "input":
        np.testing.assert_array_equal(batch[0], batch[1])
    else:
        assert batch[1][[0, 7]].tolist() == expected


def test_a_directory_is_split_class_by_class(folder: Path) -> None:
    generator = ImageDataGenerator(validation_split=0.4)
    counts = {
        s: generator.flow_from_directory(str(folder), subset=s).classes.tolist()
        for s in ("training", "validation")
    }
    assert counts == {"training": [0, 0, 0, 1, 1], "validation": [0, 0, 1]}


def test_a_table_names_files_and_classes(folder: Path) -> None:
    table = {
        "filename": ["cats/1.png", "dogs/0.png", "missing.png", "cats/2.png"],
        "class": ["c", "d", "c", "c"],
        "weight": [1.0, 2.0, 3.0, 4.0],
        "size": [0.1, 0.2, 0.3, 0.4],
    }
    generator = ImageDataGenerator()
    with pytest.warns(UserWarning, match="1 of 4 files aren't images"):
        flow = generator.flow_from_dataframe(
            table,
            str(folder),
            weight_col="weight",
            target_size=(6, 7),
            class_mode="sparse",
            shuffle=False,
        )
    x, y, w = flow[0]
    assert x[:, 0, 0, 0].tolist() == [11, 100, 12]
    assert (y.tolist(), w.tolist()) == ([0, 1, 0], [1, 2, 4])
    with pytest.warns(UserWarning, match="1 of 4"):
        raw = generator.flow_from_dataframe(
            table, str(folder), y_col="size", class_mode="raw", shuffle=False
        )
    assert raw[0][1].tolist() == [0.1, 0.2, 0.4]
    with pytest.warns(UserWarning, match="1 of 4"):
        both = generator.flow_from_dataframe(
            table, str(folder), y_col=["size", "weight"], class_mode="raw", shuffle=False
        )
    assert both[0][1].tolist() == [[0.1, 1], [0.2, 2], [0.4, 4]]
    with (
        pytest.warns(UserWarning, match="1 of 4"),
        pytest.raises(ConvcError, match="expects strings, lists or"),
    ):
        generator.flow_from_dataframe(table, str(folder), y_col="size")


def test_transformed_images_are_saved(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    x = RANDOM.integers(0, 256, (3, 5, 5, 3), np.uint8)
    ImageDataGenerator().flow(
        x, batch_size=3, shuffle=False, save_to_dir=str(out), save_prefix="a"
    )[0]
    assert sorted(p.name for p in out.iterdir()) == ["a_0_0.png", "a_1_0.png", "a_2_0.png"]


# ---------------------------------------------------------------- data sets


def test_a_folder_is_a_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = utils.image_dataset_from_directory(
        folder, image_size=(3, 4), batch_size=3, shuffle=False
    )
    assert data.class_names == ["cats", "dogs"]
    assert "Found 8 files belonging to 2 classes." in capsys.readouterr().out
    batches = list(data)
    assert [x.shape for x, _ in batches] == [(3, 3, 4, 3), (3, 3, 4, 3), (2, 3, 4, 3)]
    assert np.concatenate([y for _, y in batches]).tolist() == [0] * 5 + [1] * 3
    np.testing.assert_allclose(batches[0][0][:, 0, 0, 0], [10, 11, 12])


def test_images_are_resized_as_the_layer_does(folder: Path) -> None:
    image = RANDOM.integers(0, 256, (9, 5, 3), np.uint8)
    pillow.fromarray(image).save(folder / "cats" / "0.png")
    for crop in (False, True):
        data = utils.image_dataset_from_directory(
            folder, image_size=(4, 4), shuffle=False, crop_to_aspect_ratio=crop, label_mode=None
        )
        layer = Resizing(4, 4, crop_to_aspect_ratio=crop)
        floats = image[None].astype(np.float32)
        np.testing.assert_allclose(data[0][0], layer(floats).numpy()[0], rtol=1e-5)
    for method in ("bicubic", "area", "lanczos3"):
        data = utils.image_dataset_from_directory(
            folder,
            image_size=(4, 4),
            shuffle=False,
            label_mode=None,
            interpolation=method,
            batch_size=None,
        )
        expected = Resizing(4, 4, method)(floats[0])
        np.testing.assert_allclose(data[0], expected.numpy(), rtol=1e-4, atol=1e-2)
    data = utils.image_dataset_from_directory(
        folder, image_size=(10, 11), shuffle=False, batch_size=None, pad_to_aspect_ratio=True
    )
    inner = Resizing(10, 5)(floats[0]).numpy()  # 9 x 5 pixels in 10 x 11
    np.testing.assert_allclose(data[0][0][:, 2:7], inner, rtol=1e-5)
    assert np.all(np.asarray(data[0][0])[:, 8:] == 0)


def test_some_folders_may_be_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = utils.image_dataset_from_directory(
        folder, class_names=["dogs"], shuffle=False, batch_size=None
    )
    assert "Found 3 files belonging to 1 classes." in capsys.readouterr().out
    assert [int(y) for _, y in data] == [0, 0, 0]


def test_epochs_are_shuffled_and_repeat_with_a_seed(folder: Path) -> None:
    def epochs() -> list[list[int]]:
        data = utils.image_dataset_from_directory(
            folder, image_size=(2, 2), seed=1, label_mode=None
        )
        return [np.concatenate([x[:, 0, 0, 0] for x in data]).tolist() for _ in range(2)]

    first = epochs()
    assert first == epochs()
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1]) == [10, 11, 12, 13, 14, 100, 101, 102]


def test_subsets_do_not_overlap(folder: Path) -> None:
    parts = [
        utils.image_dataset_from_directory(
            folder, seed=3, validation_split=0.25, subset=s
        ).file_paths
        for s in ("training", "validation")
    ]
    assert [len(p) for p in parts] == [6, 2]
    assert not set(parts[0]) & set(parts[1])
    both = utils.image_dataset_from_directory(folder, seed=3, validation_split=0.25, subset="both")
    assert [p.file_paths for p in both] == parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directory": "/nowhere"}, "no folder /nowhere"),
        ({"validation_split": 0.5}, "both validation_split and subset"),
        ({"validation_split": 0.5, "subset": "training"}, "needs a seed"),
        ({"label_mode": "words"}, "label_mode must be one of"),
        ({"class_names": ["cats", "cows"]}, "class_names must be among the folders"),
        ({"labels": [1, 2]}, "a label for each of 8 files; received 2"),
        ({"pad_to_aspect_ratio": True, "crop_to_aspect_ratio": True}, "only one of"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
    ],
)
def test_wrong_arguments_are_named(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ConvcError, match=message):
        utils.image_dataset_from_directory(**{"directory": folder, **arguments})


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'convc\[image\]'"):
        utils.load_img("a.png")
