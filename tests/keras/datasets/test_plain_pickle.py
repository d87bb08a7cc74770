"""Pickles of plain data are read as pickle reads them; anything else is refused, and nothing is called."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.errors import InputFileError
from convc.keras.datasets import plain_pickle
from convc.keras.datasets.plain_pickle import read_plain_pickle

PYTHON_2 = (  # {'data': array([[1, 2]], uint8), 'labels': [6]} as Python 2's cPickle writes it, protocol 2
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
    b"\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tbU\x06labelsq\x08]q\x09K\x06au."
)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "batch"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("kind", ["u1", "<i4", ">i2", "<f8"])
def test_plain_data_is_what_pickle_reads(tmp_path: Path, protocol: int, kind: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    data = {
        "data": array,
        "fortran": np.asfortranarray(array),
        "labels": list(range(300)),
        "name": b"x\xff",
        "n": -7,
    }
    found = read_plain_pickle(written(tmp_path, pickle.dumps(data, protocol)))
    assert found.keys() == data.keys()
    for key in ("data", "fortran"):
        np.testing.assert_array_equal(found[key], array)
    assert [found[k] for k in ("labels", "name", "n")] == [data[k] for k in ("labels", "name", "n")]


def test_python_2s_batches_are_read(tmp_path: Path) -> None:
    expected = pickle.loads(PYTHON_2, encoding="bytes")  # which agrees that this is one
    found = read_plain_pickle(written(tmp_path, PYTHON_2))
    np.testing.assert_array_equal(found["data"], expected[b"data"])
    assert found["labels"] == [6]


class Hostile:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_and_not_made(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    data = pickle.dumps({"data": Hostile(os.mkdir, str(trap))}, protocol)
    with pytest.raises(InputFileError, match=r"call of posix.mkdir|opcode") as caught:
        read_plain_pickle(written(tmp_path, data))
    assert not trap.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([None], object),
        np.zeros(2, [("a", "u1")]),
        np.dtype("M8[s]"),
        collections.OrderedDict(),
        {1, 2},
        object(),
        slice(1),
        eval,
    ],
    ids=["objects", "records", "dates", "subclass", "set", "object", "slice", "function"],
)
def test_other_values_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputFileError):
        read_plain_pickle(written(tmp_path, pickle.dumps({"data": value})))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"}",
        b"garbage",
        pickle.dumps([1]),
        PYTHON_2[:60],
        b"\x80\x04\x8e"
        + (1 << 50).to_bytes(8, "little")
        + b".",  # bytes of a size that the file hasn't
        b"\x80\x02]r\xff\xff\xff\xff\x85.",  # a memo far out; then no dict
        b"\x80\x02}(K\x01u.",  # a key without a value
        b"\x80\x02}]K\x01s.",  # a list as key
        b"\x80\x02}" + b"\x85" * 9 + b"K\x01s.",
        b"cos\nsystem\n(S'true'\ntR.",
        PYTHON_2.replace(b"K\x01K\x02\x86", b"K\x09K\x09\x86"),  # a shape larger than the data
        PYTHON_2.replace(b"U\x02u1", b"U\x02O8"),
        PYTHON_2.replace(b"ndarray\n", b"matrix\n"),
    ],
)
def test_damage_is_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputFileError) as caught:
        read_plain_pickle(written(tmp_path, data))
    assert "\n" not in str(caught.value)


def test_every_cut_and_many_flips_are_errors_or_plain_data(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    for k in range(len(PYTHON_2)):
        with pytest.raises(InputFileError):
            read_plain_pickle(written(tmp_path, PYTHON_2[:k]))
    for _ in range(500):
        data = bytearray(PYTHON_2)
        data[random.integers(len(data))] = random.integers(256)
        try:
            read_plain_pickle(written(tmp_path, bytes(data)))
        except InputFileError:
            continue


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 20)
    with pytest.raises(InputFileError, match="larger than 20 bytes"):
        read_plain_pickle(written(tmp_path, PYTHON_2))
