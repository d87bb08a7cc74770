"""The data sets from files in Keras' layout, and what is said where there are none."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.errors import InputFileError, ModelError
from convc.keras import backend
from convc.keras.datasets import cifar10, cifar100, fashion_mnist, mnist

RANDOM = np.random.default_rng(11)
SHARED = Path(os.environ.get("CONVC_TEST_DATA", "../shared/data"))


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder's `datasets`, on a machine without a network."""

    def refused(url: str, timeout: float) -> Any:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("urllib.request.urlopen", refused)
    folder = tmp_path / "home" / "datasets"
    folder.mkdir(parents=True)
    return folder


def images(count: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, *shape), np.uint8)


def labels(count: int, classes: int = 10) -> np.ndarray:
    return RANDOM.integers(0, classes, count).astype(np.uint8)


# ---------------------------------------------------------------- mnist


def mnist_arrays(**others: Any) -> dict[str, Any]:
    return {
        "x_train": images(5, 28, 28), "y_train": labels(5), "x_test": images(2, 28, 28), "y_test": labels(2), **others,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*not the published file")
def test_mnist_is_read_from_the_cache(datasets: Path) -> None:
    arrays = mnist_arrays()
    np.savez_compressed(datasets / "mnist.npz", **arrays)
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    for found, name in (
        (x_train, "x_train"),
        (y_train, "y_train"),
        (x_test, "x_test"),
        (y_test, "y_test"),
    ):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, arrays[name])


def test_a_file_that_is_not_the_published_one_is_used_with_a_warning(datasets: Path) -> None:
    np.savez(datasets / "mnist.npz", **mnist_arrays())
    with pytest.warns(UserWarning, match="not the published file") as found:
        mnist.load_data()
    assert found[0].filename == __file__


def test_a_path_is_used_as_it_is(datasets: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **mnist_arrays())
    (x_train, _), _ = mnist.load_data(str(tmp_path / "own.npz"))
    assert x_train.shape == (5, 28, 28)


def test_offline_the_error_says_what_to_put_where(datasets: Path) -> None:
    with pytest.raises(InputFileError) as caught:
        mnist.load_data()
    message = str(caught.value)
    assert "\n" not in message
    assert f"get mnist.npz another way and put it at {datasets / 'mnist.npz'}" in message
    assert "no network" in message
    assert not list(datasets.iterdir())


@pytest.mark.parametrize(
    "others",
    [
        {"x_train": np.array([None] * 5, object)},
        {"x_train": images(5, 27, 28)},
        {"x_train": images(5, 28, 28) / 255},
        {"y_train": labels(4)},
        {"y_train": np.full(5, 300)},
        {"y_train": np.array(["a"] * 5)},
    ],
    ids=["objects", "shape", "floats", "length", "range", "texts"],
)
def test_other_arrays_are_refused(tmp_path: Path, others: Any) -> None:
    np.savez(tmp_path / "mnist.npz", **mnist_arrays(**others))
    with pytest.raises(InputFileError, match=r"mnist\.npz"):
        mnist.load_data(str(tmp_path / "mnist.npz"))


def test_a_pickle_in_an_npz_is_not_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(trap),)

    array = np.array([Hostile()], object)
    np.savez(tmp_path / "mnist.npz", **mnist_arrays(x_test=array))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(array))
    for name in ("mnist.npz", "bare.npz"):
        with pytest.raises(InputFileError):
            mnist.load_data(str(tmp_path / name))
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 10, 400, -30])
def test_a_damaged_npz_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, **mnist_arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputFileError, match=r"mnist\.npz"):
        mnist.load_data(str(path))


def test_an_npz_without_an_array_is_named(tmp_path: Path) -> None:
    arrays = mnist_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(InputFileError, match="y_test"):
        mnist.load_data(str(tmp_path / "mnist.npz"))


@pytest.mark.skipif(not (SHARED / "mnist.npz").is_file(), reason=f"no {SHARED}/mnist.npz")
def test_the_real_mnist() -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load_data(str((SHARED / "mnist.npz").resolve()))
    assert (x_train.shape, x_test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(y_train).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]


# ---------------------------------------------------------------- fashion-mnist


def idx(array: np.ndarray) -> bytes:
    extents = b"".join(e.to_bytes(4, "big") for e in array.shape)
    return gzip.compress(bytes((0, 0, 8, array.ndim)) + extents + array.tobytes())


@pytest.mark.filterwarnings("ignore:.*not the published file")
def test_fashion_mnist_is_read_from_the_cache(datasets: Path) -> None:
    folder = datasets / "fashion-mnist"
    folder.mkdir()
    arrays = {}
    for part, count in (("train", 4), ("t10k", 3)):
        arrays[part] = images(count, 28, 28), labels(count)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(arrays[part][0]))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(arrays[part][1]))
    train, test = fashion_mnist.load_data()
    for found, expected in ((train, arrays["train"]), (test, arrays["t10k"])):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12),
        idx(np.zeros((2, 28, 28), np.uint8))[:-9],
        idx(np.zeros((2, 9, 9), np.uint8)),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(data)
    with pytest.raises(InputFileError, match=r"images\.gz"):
        fashion_mnist.read_idx(path, 3)


# ---------------------------------------------------------------- cifar


def batch(count: int, **label_lists: list[int]) -> tuple[dict[bytes, Any], np.ndarray]:
    pixels = images(count, 3, 32, 32)
    filenames = [f"{k}.png".encode() for k in range(count)]
    data: dict[bytes, Any] = {b"data": pixels.reshape(count, -1), b"filenames": filenames}
    return data | {k.encode(): v for k, v in label_lists.items()}, pixels


def archive(path: Path, folder: str, files: dict[str, Any]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, value in files.items():
            data = pickle.dumps(value, 2)
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def cifar10_files() -> tuple[dict[str, Any], np.ndarray, list[int]]:
    files, pixels, classes = {}, [], []
    for k, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        found = labels(2).tolist()
        files[name], array = batch(2, labels=found)
        if k < 5:
            pixels.append(array)
            classes += found
    return files, np.concatenate(pixels), classes


@pytest.mark.filterwarnings("ignore:.*not the published file")
@pytest.mark.parametrize(
    "name",
    ["cifar-10-batches-py-target_archive", "cifar-10-batches-py.tar.gz", "cifar-10-python.tar.gz"],
)
def test_cifar10_is_unpacked_from_its_archive(datasets: Path, name: str) -> None:
    files, pixels, classes = cifar10_files()
    archive(datasets / name, "cifar-10-batches-py", files)
    (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    assert x_train.dtype == y_train.dtype == np.uint8
    np.testing.assert_array_equal(x_train, pixels.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(y_train, np.array(classes)[:, None])
    assert (x_test.shape, y_test.shape) == ((2, 32, 32, 3), (2, 1))
    (datasets / name).unlink()
    again, _ = cifar10.load_data()  # from the folder
    np.testing.assert_array_equal(again[0], x_train)


def test_cifar10_is_read_from_keras_2s_folder_and_channels_first(
    datasets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, pixels, _ = cifar10_files()
    folder = datasets / "cifar-10-batches-py"
    folder.mkdir()
    for name, value in files.items():
        (folder / name).write_bytes(pickle.dumps(value, 2))
    backend.set_image_data_format("channels_first")
    try:
        (x_train, _), _ = cifar10.load_data()
    finally:
        backend.set_image_data_format("channels_last")
    np.testing.assert_array_equal(x_train, pixels)


@pytest.mark.filterwarnings("ignore:.*not the published file")
def test_cifar100_has_fine_and_coarse_labels(datasets: Path) -> None:
    train, pixels = batch(3, fine_labels=[99, 5, 0], coarse_labels=[19, 1, 0])
    test, _ = batch(1, fine_labels=[7], coarse_labels=[2])
    archive(
        datasets / "cifar-100-python.tar.gz", "cifar-100-python", {"train": train, "test": test}
    )
    (x_train, fine), _ = cifar100.load_data()
    (_, coarse), (_, y_test) = cifar100.load_data("coarse")
    np.testing.assert_array_equal(x_train, pixels.transpose(0, 2, 3, 1))
    assert fine.ravel().tolist() == [99, 5, 0]
    assert coarse.ravel().tolist() == [19, 1, 0]
    assert y_test.tolist() == [[2]]
    with pytest.raises(ModelError, match="label_mode must be 'fine' or 'coarse'"):
        cifar100.load_data("rough")


def test_cifar_offline_names_the_archive(datasets: Path) -> None:
    with pytest.raises(InputFileError) as caught:
        cifar10.load_data()
    expected = datasets / "cifar-10-batches-py-target_archive"
    assert f"get cifar-10-python.tar.gz another way and put it at {expected}" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {b"data": images(2, 3072)},
        {b"data": images(2, 9), b"labels": [1, 2]},
        {b"data": images(2, 3072), b"labels": [1]},
        {b"data": images(2, 3072), b"labels": [1, 2.5]},
        {b"data": images(2, 3072), b"labels": [1, 256]},
        {b"data": [1, 2], b"labels": [1, 2]},
    ],
)
def test_a_batch_that_does_not_fit_is_refused(datasets: Path, value: Any) -> None:
    folder = datasets / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(value, 2))
    with pytest.raises(InputFileError, match="data_batch_1"):
        cifar10.load_data()
