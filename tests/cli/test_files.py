"""Arrays from files and into files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from convc_runtime import WriteError

from convc.cli.files import read_arrays, write_arrays
from convc.errors import InputFileError, UsageError

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_one_array_goes_through_npy(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npy", {"y": ONE})
    np.testing.assert_array_equal(read_arrays(tmp_path / "y.npy"), ONE)


def test_several_arrays_go_through_npz(tmp_path: Path) -> None:
    write_arrays(tmp_path / "y.npz", {"a": ONE, "b": ONE + 1})
    found = read_arrays(tmp_path / "y.npz")
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["b"], ONE + 1)


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("y.npy", {"a": ONE, "b": ONE}, r"2 outputs \(a, b\) need a \.npz"),
        ("y.txt", {"a": ONE}, "ends in"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_arrays(tmp_path / name, arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a .npy"),
        (b"hello", "not a .npy"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fo", "not a .npy"),
        (b"PK\x03\x04 not a zip", "not a .npy"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputFileError, match=rf"x\.npy: {message}"):
        read_arrays(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputFileError):
        read_arrays(tmp_path / "x.npy")


def test_a_place_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory"):
        write_arrays(tmp_path / "none" / "y.npy", {"y": ONE})


def test_damaged_compression_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=3000))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(data)
    with pytest.raises(InputFileError, match=r"not a \.npy or \.npz file that numpy can read"):
        read_arrays(path)
